//! `kubectl` and the shell, as users type them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(180);

/// What a command printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether the exit code was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs commands in the root of the project.
#[derive(Clone, Debug)]
pub struct Shell {
    root: PathBuf,
}

impl Default for Shell {
    fn default() -> Self {
        Self::new()
    }
}

impl Shell {
    /// Makes a shell.
    pub fn new() -> Self {
        Self { root: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")) }
    }

    /// Returns a path in the project.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Runs `kubectl` with these arguments, split at spaces, and returns what it printed.
    ///
    /// # Errors
    ///
    /// Returns what it said when it failed.
    pub async fn kubectl(&self, arguments: &str) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// Runs `kubectl` with these arguments, split at spaces, and a text as its input.
    ///
    /// # Errors
    ///
    /// Returns what it said when it failed.
    pub async fn kubectl_with(&self, arguments: &str, input: &str) -> Result<String> {
        let output = self.try_kubectl(arguments, input).await?;
        if !output.success {
            bail!("kubectl {arguments}: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// Runs `kubectl`, which may fail.
    ///
    /// # Errors
    ///
    /// Returns an error when it cannot be run at all.
    pub async fn try_kubectl(&self, arguments: &str, input: &str) -> Result<Output> {
        let mut command = Command::new("kubectl");
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        run(command, input).await.with_context(|| format!("kubectl {arguments}"))
    }

    /// Runs a script with bash in a directory of the project; it ends at the first command that fails.
    ///
    /// # Errors
    ///
    /// Returns what the script printed when it failed.
    pub async fn script(&self, directory: &str, text: &str) -> Result<String> {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-s"]).current_dir(self.path(directory));
        let output = run(command, text).await.context("bash")?;
        ensure!(output.success, "the script failed:\n{}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    }
}

async fn run(mut command: Command, input: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("the command's input")?;
    let exchange = async {
        let feed = async {
            // A command that does not read its input closes it.
            let _fed = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    let output = tokio::time::timeout(LIMIT, exchange).await.with_context(|| format!("no end within {LIMIT:?}"))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Returns the rows of a table that `kubectl get` prints, by the names of their columns.
pub fn table(printed: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = printed.lines();
    let header = lines.next().unwrap_or_default();
    let columns = columns(header);
    let row = |line: &str| {
        let cell = |(index, (start, name)): (usize, &(usize, String))| {
            let end = columns.get(index + 1).map_or(line.len(), |(next, _)| *next).min(line.len());
            (name.clone(), line.get(*start..end).unwrap_or_default().trim().to_owned())
        };
        columns.iter().enumerate().map(cell).collect()
    };
    lines.map(row).collect()
}

/// Returns where each column begins, and its name; names have single spaces in them, columns have more between them.
fn columns(header: &str) -> Vec<(usize, String)> {
    let mut columns = Vec::new();
    let mut at = 0;
    for part in header.split("  ") {
        let start = at + part.len() - part.trim_start().len();
        if !part.trim().is_empty() {
            columns.push((start, part.trim().to_owned()));
        }
        at += part.len() + 2;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_cells_by_column_even_where_cells_are_empty() {
        let printed = "NAME   CLASS           ADDRESS   READY ENDPOINTS   AGE\ng      kthena-router             2                 5m\n";
        let rows = table(printed);
        assert_eq!(rows.len(), 1);
        let cell = |name: &str| rows[0][name].as_str();
        assert_eq!((cell("NAME"), cell("CLASS"), cell("ADDRESS")), ("g", "kthena-router", ""));
        assert_eq!((cell("READY ENDPOINTS"), cell("AGE")), ("2", "5m"));
    }
}
