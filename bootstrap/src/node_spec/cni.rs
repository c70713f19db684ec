//! The pod network as the user's CNI configuration describes it.

use serde::Serialize;

/// One thing that a CNI configuration wants done, after the control plane answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CniStep {
    /// The line of the user's own text that it begins at, from 1.
    pub line: usize,
    /// What is to be done.
    #[serde(flatten)]
    pub action: CniAction,
}

/// What a CNI configuration can want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum CniAction {
    /// A command line for `/bin/sh`, as root, with `KUBECONFIG` and `/opt/bin` on the path.
    Shell {
        /// The line.
        command: String,
    },
    /// A program with its arguments.
    Program {
        /// The words.
        words: Vec<String>,
    },
    /// A file.
    File {
        /// Its absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Its text.
        content: String,
    },
    /// Kubernetes objects, applied as they are.
    Objects {
        /// The YAML.
        text: String,
    },
}
