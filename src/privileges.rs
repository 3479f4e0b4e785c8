//! The user that proxy, template and workers run as. Resolved by the master before anything is bound, assumed by each
//! child right after its fork, for good. The master itself stays what it was started as.
use appliance_config::settings::Security;
use nix::unistd::{Gid, Group, Uid, User, chown, fchown, getgrouplist, setgid, setgroups, setuid};
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// The name of the user that this process runs as, for messages.
pub fn current() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Becomes the user whom a folder belongs to, if root is to look into it: what lies there was written by processes that run
/// application code. Called by a command that does nothing else.
pub fn become_owner(folder: &Path) -> io::Result<()> {
    let owner = std::fs::metadata(folder)?;
    if Uid::effective().is_root() && owner.uid() != 0 {
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        Identity { uid, gid, groups: vec![gid] }.assume()?;
    }
    Ok(())
}

/// The identity that children must assume; `None`: they stay what the master is. Fails with a sentence for the user.
pub fn resolve(security: &Security) -> Result<Option<Identity>, String> {
    if !Uid::effective().is_root() {
        if security.user.is_some() || security.group.is_some() {
            tracing::warn!("security.user and security.group are ignored: only root may change them");
        }
        return Ok(None);
    }
    match (&security.user, &security.group) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err("security.group needs security.user beside it".into()),
        (Some(user), group) => find(user, group.as_deref()).map(Some),
    }
}

fn find(user: &str, group: Option<&str>) -> Result<Identity, String> {
    let unknown = |key, name| {
        format!("security.{key}: there is no {key} `{name}` on this machine; create it or name another")
    };
    let found = User::from_name(user).ok().flatten().ok_or_else(|| unknown("user", user))?;
    let gid = match group {
        None => found.gid,
        Some(name) => Group::from_name(name).ok().flatten().ok_or_else(|| unknown("group", name))?.gid,
    };
    let name = CString::new(user).map_err(|_| unknown("user", user))?;
    let groups = getgrouplist(&name, gid)
        .map_err(|error| format!("security.user: the groups of `{user}`: {error}"))?;
    Ok(Identity { uid: found.uid, gid, groups })
}

impl Identity {
    /// Becomes this user for good. Called in a child, as root.
    pub fn assume(&self) -> io::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        Ok(())
    }

    /// Gives a file or directory to this user.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        Ok(chown(path, Some(self.uid), Some(self.gid))?)
    }

    /// Gives what a descriptor stands for to this user.
    pub fn give_descriptor(&self, fd: &impl AsFd) -> io::Result<()> {
        Ok(fchown(fd, Some(self.uid), Some(self.gid))?)
    }

    /// The user's number, to compare with a file's owner.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_or_group_is_named() {
        let error = find("no-such-user", None).unwrap_err();
        assert_eq!(
            error,
            "security.user: there is no user `no-such-user` on this machine; create it or name another"
        );
        let error = find("root", Some("no-such-group")).unwrap_err();
        assert!(error.starts_with("security.group: there is no group `no-such-group`"), "{error}");
    }

    #[test]
    fn root_is_found_with_its_groups() {
        let root = find("root", None).unwrap();
        assert_eq!(root.uid(), 0);
        assert!(root.groups.contains(&Gid::from_raw(0)));
    }
}
