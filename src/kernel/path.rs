//! Which way a wire's frames cross.

use std::fmt;
use std::str::FromStr;

use super::features::{KernelFacts, PortFacts};

/// How the frames of a wire cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// In the kernel, sent on by the driver of the port that receives them.
    Xdp,
    /// In the kernel, sent on by tc.
    Tc,
    /// Through a shard.
    Shard,
}

/// `--path`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathChoice {
    /// What suits the ports best.
    #[default]
    Auto,
    /// This one or none.
    Only(Path),
}

impl Path {
    /// `xdp`, `tc` or `shard`.
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Xdp => "xdp",
            Path::Tc => "tc",
            Path::Shard => "shard",
        }
    }
}

impl fmt::Display for PathChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathChoice::Auto => "auto",
            PathChoice::Only(path) => path.as_str(),
        })
    }
}

impl FromStr for PathChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<PathChoice, String> {
        let only = [Path::Xdp, Path::Tc, Path::Shard].into_iter().find(|path| path.as_str() == text);
        match (text, only) {
            ("auto", _) => Ok(PathChoice::Auto),
            (_, Some(path)) => Ok(PathChoice::Only(path)),
            _ => Err("allowed: auto, xdp, tc, shard".to_owned()),
        }
    }
}

/// Chooses the way of a wire between these ports, and says why.
#[allow(clippy::missing_errors_doc)]
pub fn choose(
    choice: PathChoice,
    a: &PortFacts,
    b: &PortFacts,
    kernel: &KernelFacts,
) -> Result<(Path, String), String> {
    match (choice, &kernel.lacks) {
        (PathChoice::Only(Path::Shard), _) => Ok((Path::Shard, "as asked for".to_owned())),
        (PathChoice::Auto, Some(lacks)) => Ok((Path::Shard, lacks.clone())),
        (PathChoice::Auto, None) if a.0 == "veth" || b.0 == "veth" => Ok((Path::Tc, "veth".to_owned())),
        (PathChoice::Auto, None) => Ok((Path::Xdp, "drivers can".to_owned())),
        (PathChoice::Only(_), Some(lacks)) => Err(lacks.clone()),
        (PathChoice::Only(path), None) => Ok((path, "as asked for".to_owned())),
    }
}
