//! Files and ports by Landlock (landlock(7)): whatever is not named is denied, running a program always. Where the kernel knows less,
//! less is limited, and what is said says so.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::{Limited, Needs};

/// Files of every kind, cutting them short, moving them between folders, and TCP ports: Linux 6.7.
const WHOLE: ABI = ABI::V4;

/// And control of devices: Linux 6.10.
const NEWEST: ABI = ABI::V5;

/// Limits this thread; in words, to what. In `strict` it is an error where the kernel cannot do all of [`WHOLE`].
pub(super) fn restrict(needs: &Needs, is_strict: bool) -> Result<Limited, RulesetError> {
    let least = if is_strict { CompatLevel::HardRequirement } else { CompatLevel::BestEffort };
    let ruleset = Ruleset::default();
    let ruleset = ruleset.set_compatibility(least).handle_access(AccessFs::from_all(WHOLE))?;
    let ruleset = match &needs.ports {
        Some(_) => ruleset.handle_access(AccessNet::from_all(WHOLE))?,
        None => ruleset,
    };
    let ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::Signal)?;
    let mut created = ruleset.create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Never to run anything, nor to make a link by which somebody else would be led astray.
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    for path in &needs.read {
        created = allow(created, path, read)?;
    }
    for path in &needs.write {
        created = allow(created, path, write)?;
    }
    let sockets = AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile;
    for path in &needs.sockets {
        created = allow(created, path, sockets)?;
    }
    created = allow(created, Path::new("/dev/null"), read | AccessFs::WriteFile)?;
    if let Some(ports) = &needs.ports {
        for port in &ports.listen {
            created = created.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        for port in &ports.connect {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    let status = created.restrict_self()?;
    let (LandlockStatus::Available { effective_abi, .. }, false) =
        (status.landlock, status.ruleset == RulesetStatus::NotEnforced)
    else {
        let how = "files are not limited, as this kernel has no Landlock".to_owned();
        return Ok(Limited { how, is_in_force: false });
    };
    let ports = match needs.ports.is_some() && effective_abi >= ABI::V4 {
        true => "files and ports of the config alone",
        false => "files of the config alone, any port",
    };
    let signals = match effective_abi >= ABI::V6 {
        true => "no signals to others",
        false => "signals as the user may",
    };
    let how = format!("{ports}, no programs, {signals} (Landlock {})", effective_abi as i32);
    Ok(Limited { how, is_in_force: true })
}

/// Allows what may be done with a file, or with all that is in a folder. What is not there, or is out of reach already, needs no
/// leave.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(ruleset) };
    let access = match path.is_dir() {
        true => access,
        false => access & AccessFs::from_file(WHOLE),
    };
    ruleset.add_rule(PathBeneath::new(opened, access))
}
