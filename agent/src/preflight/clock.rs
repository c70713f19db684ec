//! The clock of somebody else.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(3);
/// A head longer than this is none that we want.
const HEAD: u64 = 8192;

/// What the HTTP server at `address` says that the time is (`Date`, RFC 9110 §6.6.1), whatever else it answers: the
/// virtual router does. None where nobody answers in three seconds.
pub async fn of_server(address: SocketAddr) -> Option<SystemTime> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", address.ip());
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        stream.take(HEAD).read_to_end(&mut head).await.ok()?;
        date(&String::from_utf8_lossy(&head))
    };
    tokio::time::timeout(PATIENCE, asking).await.ok()?
}

fn date(head: &str) -> Option<SystemTime> {
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    let value = lines.find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("date")))?.1;
    httpdate::parse_http_date(value.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_head_is_found() {
        let head = "HTTP/1.1 403 Forbidden\r\nServer: x\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nDate: no\r\n";
        let time = date(head).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(time.as_secs(), 784_111_777);
        assert_eq!(date("HTTP/1.1 200 OK\r\n\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), None);
        assert_eq!(date("Date: yesterday\r\n"), None);
    }
}
