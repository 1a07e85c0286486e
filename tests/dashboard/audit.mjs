// What a page owes to those who do not see it, or not well: names, headings, tables, contrasts, sizes. It runs inside the page and
// gives back what is wrong, a line each; it must not know this page, only the rules.

export function audit() {
  const wrong = [];
  const all = selector => [...document.querySelectorAll(selector)];
  const isShown = element => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const brief = element => `<${element.tagName.toLowerCase()} ${element.id ? `id=${element.id} ` : ""}class=${element.getAttribute("class") ?? ""}> ${element.textContent.trim().slice(0, 40)}`;
  const owe = (elements, is, what) => elements.filter(element => !is(element)).forEach(element => wrong.push(`${what}: ${brief(element)}`));
  const named = element => {
    const by = element.getAttribute("aria-labelledby");
    const text = by ? document.getElementById(by)?.textContent : element.getAttribute("aria-label") ?? element.textContent;
    return Boolean(text?.trim());
  };

  if (!document.documentElement.lang) wrong.push("the page has no language");
  if (!document.title.trim()) wrong.push("the page has no title");
  for (const [selector, n] of [["h1", 1], ["main", 1], ["body > header", 1]]) {
    if (all(selector).length !== n) wrong.push(`${all(selector).length} of ${selector}, not ${n}`);
  }
  const ids = all("[id]").map(element => element.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach(id => wrong.push(`two elements are called ${id}`));
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
    owe(all(`[${attribute}]`), element => element.getAttribute(attribute).split(" ").every(id => ids.includes(id)), `${attribute} leads nowhere`);
  }
  owe(all("a[href^='#']"), link => ids.includes(link.getAttribute("href").slice(1)), "a link leads nowhere");

  let level = 0;
  for (const heading of all("h1, h2, h3, h4").filter(element => !element.closest("dialog"))) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) wrong.push(`a heading of level ${now} after ${level}: ${brief(heading)}`);
    level = now;
  }
  owe(all("img"), image => image.hasAttribute("alt"), "an image without alt");
  owe(all("svg"), image => image.getAttribute("aria-hidden") === "true" || named(image), "a drawing without a name");
  owe(all("input, select, textarea"), field => field.labels?.length > 0 && named(field.labels[0]), "a field without a label");
  owe(all("button, a[href], summary").filter(isShown), named, "something to press without a name");
  owe(all("[role=region], [role=group], dialog[open]"), named, "a region without a name");
  owe(all("meter"), named, "a meter without a name");
  owe(all("table"), table => table.caption?.textContent.trim(), "a table without a caption");
  owe(all("th"), cell => ["row", "col"].includes(cell.scope), "a heading of a table without scope");
  owe(all("tbody tr"), row => row.querySelector("th[scope=row]"), "a row without a heading");
  owe(all("[tabindex]"), element => element.tabIndex <= 0, "a tabindex that changes the order");
  owe(all("[aria-live=assertive]"), () => false, "an assertive region");
  owe(all("div, section, p, ol").filter(element => isShown(element) && element.scrollHeight > element.clientHeight + 2 &&
    ["auto", "scroll"].includes(getComputedStyle(element).overflowY) && getComputedStyle(element).overflowX !== "visible"),
  element => element.tabIndex === 0 || element.scrollHeight <= element.clientHeight + 2, "it scrolls, but not by keys");
  owe(all("button, summary, input:not([type=checkbox], [type=radio])").filter(isShown), element => {
    const { width, height } = element.getBoundingClientRect();
    return width >= 24 && height >= 24;
  }, "smaller than a finger");
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`the page is ${document.documentElement.scrollWidth} wide on ${innerWidth}`);
  wrong.push(...contrasts(all, isShown, brief));
  return [...new Set(wrong)];

  function contrasts(all, isShown, brief) {
    const parse = color => {
      const parts = /^rgba?\(([^)]+)\)$/.exec(color)?.[1].split(/[ ,/]+/).map(Number);
      return parts ? { rgb: parts.slice(0, 3), alpha: parts[3] ?? 1 } : { rgb: [0, 0, 0], alpha: 0 };
    };
    const over = (top, below) => top.rgb.map((part, at) => part * top.alpha + below[at] * (1 - top.alpha));
    const light = rgb => {
      const [r, g, b] = rgb.map(part => part / 255).map(part => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
      const stack = [];
      for (let at = element; at; at = at.parentElement) {
        const style = getComputedStyle(at);
        const rect = at.namespaceURI.endsWith("svg") ? at.querySelector(":scope > rect") : null;
        if (rect && at !== element) stack.push(parse(getComputedStyle(rect).fill));
        stack.push(parse(style.backgroundColor));
        if (at.tagName === "DIALOG") break;
      }
      return stack.reverse().reduce((below, top) => over(top, below), parse(getComputedStyle(document.body).backgroundColor).rgb);
    };
    const found = [];
    const texts = all("body *").filter(element => isShown(element) && !element.closest("title, noscript, .unseen, .skip, caption, :disabled") &&
      [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()));
    for (const element of texts) {
      const style = getComputedStyle(element);
      const below = ground(element);
      const own = over(parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color), below);
      const [high, low] = [light(own), light(below)].sort((a, b) => b - a);
      const ratio = (high + 0.05) / (low + 0.05);
      const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.7 && Number(style.fontWeight) >= 600);
      if (ratio < (isLarge ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${brief(element)}`);
    }
    return found;
  }
}
