//! What cloud-init keeps of its own data source. In a boot in which cloud-init asked that, it is as good as the source;
//! else it may be of another time, or of the machine that a template was made on.

use bootstrap::datasource;

use super::{AHEAD, Found, Look, USER_DATA_MAX_BYTES, is_this_machine, text};
use crate::adopt::UserDataRecord;
use crate::files::small;
use crate::host::Host;

/// Where cloud-init keeps the user data as it came.
const USER_DATA: &str = "/var/lib/cloud/instance/user-data.txt";
const INSTANCE_ID: &str = "/var/lib/cloud/data/instance-id";
/// What cloud-init knows, of this boot; the first is root's alone and complete.
const INSTANCE_DATA: [&str; 2] = ["/run/cloud-init/instance-data-sensitive.json", "/run/cloud-init/instance-data.json"];
const NAME: &str = "cloud-init's cache";

/// Looks at the cache for the `looks`th time.
pub(super) async fn look(host: &Host, looks: u32) -> Look {
    if looks == 0 {
        tokio::time::sleep(AHEAD).await;
    }
    match read(host) {
        Ok((found, false)) => Look::Earlier(Box::new(found)),
        Ok((found, true)) if found.user_data.is_empty() => Look::WithoutUserData(Box::new(found)),
        Ok((found, true)) => Look::Found(Box::new(found)),
        Err(why) => Look::Nothing(vec![(NAME.to_owned(), why)]),
    }
}

/// What the cache holds for this machine, and whether its source was asked in this boot.
fn read(host: &Host) -> Result<(Found, bool), String> {
    let kept = datasource::instance_id(&text(&host.path(INSTANCE_ID)));
    let Some(kept) = kept else { return Err("is empty".to_owned()) };
    let told = INSTANCE_DATA.iter().find_map(|path| {
        let text = text(&host.path(path));
        Some((datasource::instance_data(&text)?, datasource::is_config_drive(&text)))
    });
    let told = told.filter(|(metadata, _)| metadata.instance_id.as_ref() == Some(&kept));
    let asked = told.as_ref().is_some_and(|(_, is_config_drive)| !is_config_drive);
    if told.is_none() {
        let is = |id: &str| id.eq_ignore_ascii_case(&kept);
        let recorded = UserDataRecord::read(host).ok().flatten().and_then(|record| record.instance_id);
        if !is_this_machine(host, &kept) && !recorded.as_deref().is_some_and(is) {
            return Err(format!("is of an earlier boot of instance {kept}, which this machine may not be"));
        }
    }
    let user_data = small(&host.path(USER_DATA), USER_DATA_MAX_BYTES).map_err(|e| format!("{USER_DATA}: {e}"))?;
    let mut metadata = told.map(|(metadata, _)| metadata).unwrap_or_default();
    metadata.instance_id = Some(kept);
    let source = host.path(USER_DATA).display().to_string();
    Ok((Found { metadata, user_data: user_data.unwrap_or_default(), source }, asked))
}
