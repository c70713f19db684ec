//! What cloud-init does with a management server's user data: files before the agent begins, commands once it has taken
//! the scripts over; each of it once for an instance, by the semaphores that the server removes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bootstrap::user_data::yaml::{self, Node};

use crate::kubernetes::Machine;
use crate::leash::Running;
use crate::programs;

/// The unit of the package, which a template has switched on. Here it is started in its place of the order by hand:
/// what stands in for systemd knows no cloud-init.
const UNIT: &str = "cks-bootstrap";

/// What comes behind `cloud-config.service`: the agent's unit, and the user's commands when that is up.
const FINAL: &str = r#"
systemctl start "$1" || echo "the unit has failed"
[ ! -e "$2/sem/config_scripts_user" ] || exit 0
touch "$2/sem/config_scripts_user"
exec "$2/scripts/runcmd"
"#;

/// A boot of the instance `id` that finds `user_data`. It goes on until the value is dropped.
pub(super) fn boot(machine: &Machine, id: &str, user_data: &str) -> Result<Running> {
    let directory = format!("/var/lib/cloud/instances/{id}");
    machine.sh(&format!(
        "mkdir -p {directory}/sem {directory}/scripts && ln -sfn {directory} /var/lib/cloud/instance
         rm -f {directory}/user-data.txt"
    ))?;
    machine.write(&format!("{directory}/user-data.txt"), user_data)?;
    machine.sh(&format!("chmod 600 {directory}/user-data.txt"))?;
    let config = yaml::document(&rendered(user_data)).map_err(|fault| anyhow!("user data: {fault:?}"))?;
    let config = config.root.context("user data is empty")?;
    if !machine.path(&format!("{directory}/sem/config_write_files"))?.exists() {
        login(machine, &config)?;
        for file in config.get("write_files").and_then(Node::list).unwrap_or_default() {
            write_file(machine, file)?;
        }
        machine.write(&format!("{directory}/sem/config_write_files"), "")?;
    }
    if !machine.path(&format!("{directory}/sem/config_runcmd"))?.exists() {
        let script = format!("{directory}/scripts/runcmd");
        machine.write(&script, &commands(&config)?)?;
        machine.sh(&format!("chmod 700 {script} && touch {directory}/sem/config_runcmd"))?;
    }
    let unit = programs::workspace().join(format!("systemd/{UNIT}.service"));
    let unit = fs::read_to_string(&unit).with_context(|| format!("Reading {}", unit.display()))?;
    machine.write(&format!("/etc/systemd/system/{UNIT}.service"), &unit)?;
    machine.sh("systemctl daemon-reload")?;
    let environment = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];
    let run = environment.into_iter().chain(["sh", "-c", FINAL, "cloud-final", UNIT, &directory]);
    machine.command(run)?.start(&machine.path("/var/log/bed/cloud-init-output.log")?)
}

/// User data without its header for jinja: of all that it may say there, a server without a private registry says `if`.
fn rendered(user_data: &str) -> String {
    if !user_data.starts_with("## template: jinja") {
        return user_data.to_owned();
    }
    let mut within = false;
    let mut text = String::new();
    for line in user_data.lines().skip(1) {
        match line.trim() {
            "{% if registry is defined %}" => within = true,
            "{% endif %}" => within = false,
            _ if within => {}
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

/// The login is there already, as on a template; its keys come from here.
fn login(machine: &Machine, config: &Node) -> Result<()> {
    for user in config.get("users").and_then(Node::list).unwrap_or_default() {
        ensure!(user.get("name").and_then(Node::text) == Some("cloud"), "a user that this bed does not know: {user:?}");
        let keys = user.get("ssh_authorized_keys").and_then(Node::list).unwrap_or_default();
        let keys: String = keys.iter().filter_map(Node::text).map(|key| format!("{key}\n")).collect();
        machine.write("/home/cloud/.ssh/authorized_keys", &keys)?;
        machine.sh("chown -R cloud:cloud /home/cloud && chmod 600 /home/cloud/.ssh/authorized_keys")?;
    }
    Ok(())
}

fn write_file(machine: &Machine, file: &Node) -> Result<()> {
    let text = |key: &str| file.get(key).and_then(Node::text);
    let path = text("path").context("a file without a path")?;
    ensure!(text("encoding").is_none(), "{path} is encoded, which no server does");
    ensure!(matches!(text("owner"), None | Some("root:root")), "{path} belongs to {:?}", text("owner"));
    let mode = u32::from_str_radix(text("permissions").unwrap_or("0644"), 8).context("Reading permissions")?;
    machine.write(path, text("content").unwrap_or_default())?;
    let here = machine.path(path)?;
    fs::set_permissions(&here, fs::Permissions::from_mode(mode)).with_context(|| format!("Setting the mode of {path}"))
}

/// One script of all commands; it goes on behind one that fails.
fn commands(config: &Node) -> Result<String> {
    let mut script = "#!/bin/sh\n".to_owned();
    for command in config.get("runcmd").and_then(Node::list).unwrap_or_default() {
        match (command.text(), command.list()) {
            (Some(line), _) => script += &format!("{line}\n"),
            (None, Some(words)) => {
                let words =
                    words.iter().filter_map(Node::text).map(|word| format!("'{}'", word.replace('\'', r"'\''")));
                script += &format!("{}\n", words.collect::<Vec<_>>().join(" "));
            }
            (None, None) => bail!("a command that is neither text nor list: {command:?}"),
        }
    }
    Ok(script)
}

/// How long a login may take to be there.
pub(super) const LOGIN: Duration = Duration::from_secs(30);
