//! One connection: requests, the real server's answers, and what is done to them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::{Asked, Fault, Shared};
use crate::web::{inside, reset};

/// Bytes that are handed on at once: a fault strikes exactly after its byte.
const PIECE: usize = 16 << 10;

/// The head of a request or an answer.
struct Head {
    line: String,
    headers: Vec<(String, String)>,
}

/// What becomes of the connection after an exchange.
enum Next {
    Request,
    End,
    /// It ends as soon as nobody holds it, by RST.
    Reset,
}

pub(super) fn converse(shared: &Shared, stream: TcpStream, connection: usize) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Head::read(&mut reader)? {
        let mut words = request.line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: BTreeMap<String, String> = request.headers.iter().cloned().collect();
        let range = headers.get("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        let number = shared.note(Asked {
            connection,
            method: method.to_owned(),
            path: path.to_owned(),
            host: headers.get("host").cloned().unwrap_or_default(),
            range,
            if_range: headers.get("if-range").cloned(),
            headers,
            at: Instant::now(),
            status: 0,
            first: 0,
            bytes: 0,
            fault: None,
        });
        let (path, first, head) = (path.to_owned(), range.map(|(first, _)| first), method == "HEAD");
        let mut exchange = Exchange { shared, client: &stream, number, path, first, head };
        match exchange.run(request, range)? {
            Next::Request => {}
            Next::Reset => break,
            Next::End => {
                stream.shutdown(Shutdown::Both)?;
                break;
            }
        }
    }
    Ok(())
}

struct Exchange<'a> {
    shared: &'a Shared,
    client: &'a TcpStream,
    number: usize,
    path: String,
    /// Where the range begins that is asked for.
    first: Option<u64>,
    /// Nothing but a head is asked for.
    head: bool,
}

impl Exchange<'_> {
    fn run(&mut self, mut request: Head, range: Option<(u64, u64)>) -> io::Result<Next> {
        let fault = self.shared.due(&self.path, self.first, None).map(|(fault, _)| fault);
        if let Some(fault) = &fault {
            self.told(fault);
        }
        let text = match &fault {
            Some(Fault::Status(status, after)) => {
                let after = after.as_ref().map(|after| format!("Retry-After: {after}\r\n")).unwrap_or_default();
                self.shared.amend(self.number, |asked| asked.status = *status);
                let body = if self.head { "" } else { "no\n" };
                format!("HTTP/1.1 {status} Fault\r\nContent-Length: 3\r\n{after}\r\n{body}")
            }
            Some(Fault::Page) => {
                let page = "<html><body>Please log in</body></html>";
                let body = if self.head { "" } else { page };
                let length = page.len();
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{body}")
            }
            Some(Fault::Redirect(to)) => format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
            Some(Fault::Garbage) => {
                (&mut &*self.client).write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n\x00\xff")?;
                return Ok(Next::End);
            }
            _ => String::new(),
        };
        if !text.is_empty() {
            (&mut &*self.client).write_all(text.as_bytes())?;
            return Ok(Next::Request);
        }
        match &fault {
            Some(Fault::WrongRange) => {
                if let Some((first, last)) = range {
                    request.set("range", &format!("bytes={}-{}", first + 7, last + 7));
                }
            }
            Some(Fault::Happens(happening)) => happening(),
            Some(Fault::NoRange) => request.headers.retain(|(name, _)| name != "range" && name != "if-range"),
            _ => {}
        }
        request.set("connection", "close");
        let mut server = self.server()?;
        server.write_all(request.text().as_bytes())?;
        let mut server = BufReader::new(server);
        let Some(mut answer) = Head::read(&mut server)? else { return Ok(Next::End) };
        self.relay(&mut answer, &mut server, fault.filter(|fault| !matches!(fault, Fault::Happens(_))))
    }

    /// Hands the answer on, up to the moment of a fault.
    fn relay(&self, answer: &mut Head, server: &mut impl Read, fault: Option<Fault>) -> io::Result<Next> {
        let status = answer.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let first =
            answer.get("content-range").and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        self.shared.amend(self.number, |asked| (asked.status, asked.first) = (status, first.unwrap_or(0)));
        let length: Option<u64> = answer.get("content-length").and_then(|length| length.parse().ok());
        let (fault, after) = match fault {
            Some(fault) => (Some(fault), 0),
            None => {
                match self.shared.due(&self.path, self.first, Some(if self.head { 0 } else { length.unwrap_or(0) })) {
                    Some((fault, after)) => {
                        self.told(&fault);
                        (Some(fault), after)
                    }
                    None => (None, 0),
                }
            }
        };
        // With a length the connection is kept.
        let chunked = matches!(fault, Some(Fault::Chunked));
        match (&fault, length) {
            (Some(Fault::Multipart), _) => answer.set("content-type", "multipart/byteranges; boundary=x"),
            (Some(Fault::Encoded), _) => answer.set("content-encoding", "gzip"),
            (Some(Fault::Chunked), _) => {
                answer.headers.retain(|(name, _)| name != "content-length");
                answer.set("transfer-encoding", "chunked");
            }
            _ => {}
        }
        if length.is_some() {
            answer.headers.retain(|(name, _)| name != "connection");
        }
        if after == 0
            && let Some(end) = self.strike(fault.as_ref())?
        {
            return Ok(end);
        }
        (&mut &*self.client).write_all(answer.text().as_bytes())?;
        let length = if self.head { Some(0) } else { length };
        if let Some(end) = self.body(server, length, fault.as_ref().map(|fault| (fault, after)), chunked)? {
            return Ok(end);
        }
        if let Some(Fault::Extra(count)) = fault {
            (&mut &*self.client).write_all(&vec![b'x'; count])?;
        }
        Ok(if length.is_some() { Next::Request } else { Next::End })
    }

    /// Hands the body on; how the connection ends, where a fault struck that ends it.
    fn body(
        &self,
        server: &mut impl Read,
        length: Option<u64>,
        fault: Option<(&Fault, u64)>,
        chunked: bool,
    ) -> io::Result<Option<Next>> {
        let (mut sent, mut struck) = (0_u64, fault.is_none_or(|(_, after)| after == 0));
        let mut piece = vec![0; PIECE];
        let mut pace: Option<u64> = None;
        if let Some((Fault::Slow(kib), 0)) = fault {
            pace = Some(*kib);
        }
        let mut corrupt = matches!(fault, Some((Fault::Corrupt, 0)));
        while length.is_none_or(|length| sent < length) {
            let mut want = length.map_or(PIECE as u64, |length| (length - sent).min(PIECE as u64));
            if let Some((_, after)) = fault.filter(|_| !struck) {
                want = want.min(after - sent);
            }
            if want == 0 {
                struck = true;
                match fault {
                    Some((Fault::Slow(kib), _)) => pace = Some(*kib),
                    Some((Fault::Corrupt, _)) => corrupt = true,
                    other => {
                        if let Some(end) = self.strike(other.map(|(fault, _)| fault))? {
                            return Ok(Some(end));
                        }
                    }
                }
                continue;
            }
            let got = server.read(&mut piece[..want as usize])?;
            if got == 0 {
                break;
            }
            if std::mem::take(&mut corrupt) {
                piece[0] ^= 1;
            }
            let mut client = self.client;
            if chunked {
                write!(client, "{got:x}\r\n")?;
            }
            client.write_all(&piece[..got])?;
            if chunked {
                client.write_all(b"\r\n")?;
            }
            sent += got as u64;
            self.shared.amend(self.number, |asked| asked.bytes = sent);
            if let Some(kib) = pace {
                std::thread::sleep(Duration::from_micros(got as u64 * 1_000_000 / (kib * 1024)));
            }
        }
        if chunked {
            (&mut &*self.client).write_all(b"0\r\n\r\n")?;
        }
        Ok(None)
    }

    /// Does what the fault does at its moment; how the connection ends, where it ends by that.
    fn strike(&self, fault: Option<&Fault>) -> io::Result<Option<Next>> {
        match fault {
            Some(Fault::Reset) => {
                reset(self.client)?;
                Ok(Some(Next::Reset))
            }
            Some(Fault::Refuse(time)) => {
                *super::locked(&self.shared.refuse) = Some(*time);
                self.shared.wake(self.shared.address);
                reset(self.client)?;
                Ok(Some(Next::Reset))
            }
            Some(Fault::Close) => Ok(Some(Next::End)),
            Some(Fault::Stall | Fault::Silence) => {
                // Until the client has enough of it.
                let mut client = self.client;
                while client.read(&mut [0; 64])? > 0 {}
                Ok(Some(Next::End))
            }
            Some(Fault::Happens(happening)) => {
                happening();
                Ok(None)
            }
            Some(Fault::Breaks(happening)) => {
                happening();
                self.strike(Some(&Fault::Reset))
            }
            Some(Fault::Then(then)) => {
                let (moment, fault) = (**then).clone();
                super::locked(&self.shared.rules).push(super::Rule { moment, fault, seen: 0, struck: 0 });
                self.strike(Some(&Fault::Reset))
            }
            _ => Ok(None),
        }
    }

    fn server(&self) -> io::Result<TcpStream> {
        let upstream = self.shared.upstream.clone();
        inside(&self.shared.network, move || Ok(TcpStream::connect(upstream)?)).map_err(io::Error::other)
    }

    fn told(&self, fault: &Fault) {
        self.shared.amend(self.number, |asked| asked.fault = Some(format!("{fault:?}")));
    }
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let (first, mut headers) = (line.trim_end().to_owned(), Vec::new());
        loop {
            line.clear();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self { line: first, headers }))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(header, _)| header != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn text(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{headers}\r\n", self.line)
    }
}
