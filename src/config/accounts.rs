//! Who the process shall become, looked up in the system's lists of users and groups. Nothing here changes rights: `verify`
//! asks in order to say what is missing, and `process` in order to do it.

use nix::unistd::{Gid, Group, Uid, User};

use super::problem::shown;
use super::{Account, Process};

/// Numbers of a user and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// All groups the user is in, the one above included.
    pub(crate) groups: Vec<u32>,
}

/// What keeps `user` or `group` from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// `user` or `group`.
    pub(crate) key: &'static str,
    pub(crate) message: String,
    pub(crate) advice: String,
}

impl Identity {
    /// Who `user` and `group` of `[process]` are; none where the process stays who it is.
    pub(crate) fn find(process: &Process) -> Result<Option<Identity>, Unknown> {
        let Some(wanted) = &process.user else {
            return match &process.group {
                None => Ok(None),
                Some(_) => {
                    Err(unknown("group", "there is no `user` to go with this group", "add user"))
                }
            };
        };
        let user = user(wanted)?;
        let number = user.as_ref().map(|user| user.uid.as_raw()).or(wanted.number());
        let number = number.expect("one without an entry is a number");
        let group = match (&process.group, &user) {
            (Some(group), _) => group_number(group)?,
            // Whoever it is already has a group, whichever that is.
            (None, _) if Uid::effective().as_raw() == number => Gid::effective().as_raw(),
            (None, Some(user)) => user.gid.as_raw(),
            (None, None) => {
                let message = format!("no user has the number {number}, so its group is not known");
                return Err(unknown("user", message, "add group, by name or number"));
            }
        };
        let groups = match &user {
            Some(user) => groups_of(user, group),
            None => vec![group],
        };
        Ok(Some(Identity { user: number, group, groups }))
    }

    /// Whether the process is this user, in this group, already.
    pub(crate) fn is_ours(&self) -> bool {
        let users = [Uid::effective(), Uid::current()].map(Uid::as_raw);
        users == [self.user; 2] && Gid::effective().as_raw() == self.group
    }
}

fn unknown(key: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Unknown {
    Unknown { key, message: message.into(), advice: advice.into() }
}

/// The user's entry. A number may have none.
fn user(wanted: &Account) -> Result<Option<User>, Unknown> {
    let found = match wanted.number() {
        Some(number) => User::from_uid(Uid::from_raw(number)),
        None => User::from_name(wanted.as_str()),
    };
    match found {
        Ok(None) if wanted.number().is_none() => {
            let name = shown(wanted.as_str());
            let advice = format!("add it: useradd --system --shell /usr/sbin/nologin {name}");
            Err(unknown("user", format!("there is no user \"{name}\""), advice))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(unknown("user", format!("users cannot be looked up: {error}"), "")),
    }
}

fn group_number(wanted: &Account) -> Result<u32, Unknown> {
    if let Some(number) = wanted.number() {
        return Ok(number);
    }
    match Group::from_name(wanted.as_str()) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => {
            let name = shown(wanted.as_str());
            let advice = format!("add it: groupadd --system {name}");
            Err(unknown("group", format!("there is no group \"{name}\""), advice))
        }
        Err(error) => Err(unknown("group", format!("groups cannot be looked up: {error}"), "")),
    }
}

/// The groups of a user, beginning with the one it shall have.
fn groups_of(user: &User, group: u32) -> Vec<u32> {
    let name = std::ffi::CString::new(user.name.as_str()).unwrap_or_default();
    let listed = nix::unistd::getgrouplist(&name, Gid::from_raw(group));
    let mut groups: Vec<u32> = listed.unwrap_or_default().iter().map(|gid| gid.as_raw()).collect();
    if !groups.contains(&group) {
        groups.insert(0, group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, Unknown> {
        let account = |text: &str| text.parse::<Account>().unwrap();
        let process =
            Process { user: user.map(account), group: group.map(account), ..Process::default() };
        Identity::find(&process)
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        assert_eq!(find(None, None), Ok(None));
        let root = find(Some("root"), None).unwrap().unwrap();
        assert_eq!((root.user, root.group), (0, 0));
        assert!(root.groups.contains(&0));
        let some = find(Some("4000000"), Some("4000001")).unwrap().unwrap();
        assert_eq!(some, Identity { user: 4_000_000, group: 4_000_001, groups: vec![4_000_001] });
    }

    #[test]
    fn whoever_is_not_there_is_named_with_what_to_do() {
        let user = find(Some("no-such-user"), None).unwrap_err();
        assert_eq!((user.key, &*user.message), ("user", "there is no user \"no-such-user\""));
        assert!(user.advice.contains("useradd"), "{user:?}");
        let group = find(Some("root"), Some("no-such-group")).unwrap_err();
        assert_eq!((group.key, &*group.message), ("group", "there is no group \"no-such-group\""));
        assert_eq!(find(Some("4000000"), None).unwrap_err().key, "user");
        assert_eq!(find(None, Some("root")).unwrap_err().key, "group");
    }
}
