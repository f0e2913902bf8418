//! The trace that a request belongs to, as its caller says: `traceparent` of W3C Trace Context,
//! section 3.2. It goes into the log, where it ties lines to what other programs tell of the trace.

/// Where in a trace a request was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext<'f> {
    /// 32 lowercase hexadecimal characters.
    pub trace_id: &'f str,
    /// The caller's part of it, 16 of them.
    pub parent_id: &'f str,
}

impl<'f> TraceContext<'f> {
    /// Reads the field; `None` where it is malformed, as the recommendation demands. A version to
    /// come may put more at its end.
    pub fn parse(value: &'f [u8]) -> Option<Self> {
        let (known, rest) = std::str::from_utf8(value).ok()?.split_at_checked(55)?;
        let mut parts = known.split('-');
        let [version, trace_id, parent_id, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_named = |id: &str, length| is_hex(id, length) && id.bytes().any(|byte| byte != b'0');
        let is_whole = rest.is_empty() || (version != "00" && rest.starts_with('-'));
        let is_sound = is_hex(version, 2) && version != "ff" && is_hex(flags, 2) && is_whole;
        (is_sound && is_named(trace_id, 32) && is_named(parent_id, 16)).then_some(Self { trace_id, parent_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_read_as_the_recommendation_says() {
        let expected = TraceContext { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736", parent_id: "00f067aa0ba902b7" };
        for sound in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
        ] {
            assert_eq!(TraceContext::parse(sound.as_bytes()), Some(expected), "{sound}");
        }
        for malformed in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert_eq!(TraceContext::parse(malformed.as_bytes()), None, "{malformed}");
        }
    }
}
