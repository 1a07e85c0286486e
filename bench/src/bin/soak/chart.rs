//! Draws a run as SVG: memory, descriptors and losses over time, faults as marks across all three.
//! Colours follow the reader's light or dark setting.

use crate::run::{Found, Sample};
use crate::schedule::Act;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 130.0;
const HEAD: f64 = 46.0;
const TOP: f64 = 8.0;
/// More points than this are no longer seen apart.
const POINTS: usize = 600;

const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.number { fill: #57606a }
.axis { stroke: #c4cbd2 }
path { fill: none; stroke-width: 1.6 }
.first { stroke: #0f7b6c } .first-text { fill: #0f7b6c }
.second { stroke: #8c959f } .second-text { fill: #57606a }
.bad { stroke: #cf222e } .bad-text { fill: #cf222e }
.kill { stroke: #cf222e; opacity: 0.35 }
.stop { stroke: #bf8700; opacity: 0.45; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.number { fill: #9da7b1 }
.axis { stroke: #444c56 }
.first { stroke: #2fb5a0 } .first-text { fill: #2fb5a0 }
.second { stroke: #8b949e } .second-text { fill: #9da7b1 }
.bad { stroke: #ff7b72 } .bad-text { fill: #ff7b72 }
.kill { stroke: #ff7b72 }
.stop { stroke: #d29922 }
}
</style>
";

type Line = (&'static str, &'static str, fn(&Sample) -> f64);

const PANELS: [(&str, &[Line]); 3] = [
    (
        "Memory, MB",
        &[
            ("second", "proportional share", |sample| sample.memory.pss as f64 / 1e6),
            ("first", "resident", |sample| sample.memory.rss as f64 / 1e6),
        ],
    ),
    (
        "Descriptors",
        &[
            ("second", "open client connections", |sample| sample.open as f64),
            ("first", "descriptors", |sample| sample.descriptors.all() as f64),
        ],
    ),
    (
        "Connections lost so far",
        &[
            ("first", "excused: their backend was killed", |sample| sample.excused as f64),
            ("bad", "not excused", |sample| sample.unexcused as f64),
        ],
    ),
];

/// The whole picture.
pub fn draw(found: &Found) -> String {
    let samples = thin(&found.samples);
    let seconds = samples.last().map_or(1.0, |sample| sample.seconds).max(1.0);
    let across = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at / seconds).min(1.0);
    let mut drawn = marks(found, across);
    for (number, (title, lines)) in PANELS.iter().enumerate() {
        let top = TOP + number as f64 * (HEAD + PANEL);
        drawn += &panel(title, lines, &samples, top, across);
    }
    let bottom = TOP + PANELS.len() as f64 * (HEAD + PANEL);
    drawn += &time_axis(seconds, bottom, across);
    let height = bottom + 52.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"Memory, descriptors and \
         lost connections over time\">\n{STYLE}{drawn}</svg>\n"
    )
}

/// Of several samples that would share a point, the one with the most memory stands for all.
fn thin(samples: &[Sample]) -> Vec<Sample> {
    let together = samples.len().div_ceil(POINTS).max(1);
    let most = |some: &[Sample]| some.iter().max_by_key(|sample| sample.memory.rss).copied();
    samples.chunks(together).filter_map(most).collect()
}

fn marks(found: &Found, across: impl Fn(f64) -> f64) -> String {
    let mut drawn = String::new();
    for mark in &found.marks {
        let class = if mark.event.act == Act::Kill { "kill" } else { "stop" };
        let x = across(mark.seconds);
        for number in 0..PANELS.len() {
            let top = TOP + HEAD + number as f64 * (HEAD + PANEL);
            let bottom = top + PANEL;
            drawn += &format!(
                "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" \
                 y2=\"{bottom}\"/>\n"
            );
        }
    }
    drawn
}

fn panel(
    title: &str,
    lines: &[Line],
    samples: &[Sample],
    top: f64,
    across: impl Fn(f64) -> f64,
) -> String {
    let values = lines.iter().flat_map(|line| samples.iter().map(line.2));
    let highest = round_up(values.fold(0.0, f64::max));
    let base = top + HEAD + PANEL;
    let up = |value: f64| base - PANEL * value / highest;
    let mut drawn =
        format!("<text class=\"title\" x=\"{LEFT}\" y=\"{:.1}\">{title}</text>\n", top + 16.0);
    for value in [0.0, highest / 2.0, highest] {
        let y = up(value);
        drawn += &format!(
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"number\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
        );
    }
    for (number, (class, name, value)) in lines.iter().enumerate() {
        let mut path = String::new();
        for sample in samples {
            let step = if path.is_empty() { 'M' } else { 'L' };
            path += &format!("{step}{:.1} {:.1}", across(sample.seconds), up(value(sample)));
        }
        let x = LEFT + 240.0 * number as f64;
        let y = top + 34.0;
        drawn += &format!(
            "<path class=\"{class}\" d=\"{path}\"/>\
             <text class=\"{class}-text\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>\n"
        );
    }
    drawn
}

fn time_axis(seconds: f64, bottom: f64, across: impl Fn(f64) -> f64) -> String {
    let (unit, name) = match seconds {
        _ if seconds > 3.0 * 3600.0 => (3600.0, "h"),
        _ if seconds > 180.0 => (60.0, "min"),
        _ => (1.0, "s"),
    };
    let step = round_up(seconds / unit / 6.0).max(1.0) * unit;
    let mut drawn = String::new();
    let mut at = 0.0;
    while at <= seconds {
        drawn += &format!(
            "<text class=\"number\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} {name}</text>\n",
            across(at),
            bottom + 18.0,
            at / unit,
        );
        at += step;
    }
    let y = bottom + 40.0;
    let (first, second) = (LEFT, LEFT + 240.0);
    drawn
        + &format!(
            "<line class=\"kill\" x1=\"{first}\" y1=\"{0:.1}\" x2=\"{first}\" y2=\"{1:.1}\"/>\
             <text class=\"number\" x=\"{2:.1}\" y=\"{y:.1}\">a backend is killed</text>\
             <line class=\"stop\" x1=\"{second}\" y1=\"{0:.1}\" x2=\"{second}\" y2=\"{1:.1}\"/>\
             <text class=\"number\" x=\"{3:.1}\" y=\"{y:.1}\">a backend is stopped</text>\n",
            y - 12.0,
            y + 4.0,
            first + 8.0,
            second + 8.0,
        )
}

/// The next of 1, 2, 4, 6, 8, 10, 20, ...: halves of them are short to write.
fn round_up(value: f64) -> f64 {
    let mut size = 1.0;
    while size * 10.0 < value {
        size *= 10.0;
    }
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    let fitting = steps.into_iter().map(|step| step * size).find(|&round| round >= value);
    fitting.unwrap_or(10.0 * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let rounded = [0.0, 0.3, 1.5, 7.0, 11.0, 230.0].map(round_up);
        assert_eq!(rounded, [1.0, 1.0, 2.0, 8.0, 20.0, 400.0]);
    }

    #[test]
    fn a_run_of_a_day_is_drawn_with_few_points() {
        assert!(thin(&vec![Sample::default(); 86_400]).len() <= POINTS);
    }
}
