//! What a caller that speaks raw bytes was answered: one response, taken apart, and whether all of it came.

/// A response of HTTP/1.1.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, with the empty line.
    pub head: String,
    /// Its body, out of its chunks.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing said.
    pub whole: bool,
}

impl Answer {
    /// Takes `wire` apart; `None` when it is no answer.
    pub fn parse(wire: &[u8]) -> Option<Self> {
        let body_at = wire.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(wire[..body_at].to_vec()).ok()?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let mut answer = Self { status, head, body: wire[body_at..].to_vec(), whole: false };
        answer.whole = match answer.field("content-length") {
            Some(length) => length == answer.body.len().to_string(),
            None if answer.field("transfer-encoding") == Some("chunked") => answer.unchunk(),
            None => answer.body.is_empty() && matches!(status, 204 | 304),
        };
        Some(answer)
    }

    /// The first field of this name, in whatever case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The step that a refusal of ours names.
    pub fn step(&self) -> String {
        self.json()["southbridge"]["step"].as_str().unwrap_or_default().to_owned()
    }

    /// Takes the body out of its chunks; whether the last of them was there, and its empty line.
    fn unchunk(&mut self) -> bool {
        let (mut rest, mut body) = (&self.body[..], Vec::new());
        let whole = loop {
            let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else { break false };
            let size =
                std::str::from_utf8(&rest[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let Some(size) = size else { break false };
            if size == 0 {
                break &rest[line + 2..] == b"\r\n";
            }
            let Some(data) = rest.get(line + 2..line + 2 + size) else { break false };
            body.extend_from_slice(data);
            rest = rest.get(line + 4 + size..).unwrap_or_default();
        };
        self.body = body;
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that is cut anywhere is not whole, whatever its framing; what came of its body is there.
    #[test]
    fn an_answer_that_is_cut_is_not_whole() {
        for framing in
            ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
        {
            let wire = format!("HTTP/1.1 200 OK\r\n{framing}");
            let answer = Answer::parse(wire.as_bytes()).unwrap();
            assert_eq!((answer.status, answer.text().as_str(), answer.whole), (200, "hello", true));
            for cut in 0..wire.len() {
                assert!(
                    Answer::parse(&wire.as_bytes()[..cut]).is_none_or(|answer| !answer.whole),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn without_framing_an_answer_is_whole_where_it_has_no_body() {
        let whole = |wire: &[u8]| Answer::parse(wire).unwrap().whole;
        assert!(whole(b"HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!whole(b"HTTP/1.1 200 OK\r\n\r\nuntil it closes"));
        assert!(Answer::parse(b"no HTTP\r\n\r\n").is_none());
    }
}
