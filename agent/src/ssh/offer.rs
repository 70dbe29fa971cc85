//! What a client offers for its first key exchange (RFC 4253, section 7.1), read before russh has it.
//!
//! russh's server tells nobody whether strict key exchange came about, and it is what decides which algorithms a client
//! may be served by (CVE-2023-48795). It comes about exactly when both sides name it in their first message, and we do.
//! That message is part of what the exchange signs: whoever changes it in between gets no session.

/// Longest identification, with its end of line (RFC 4253, section 4.2: 255; russh reads up to 256).
const MAX_IDENTIFICATION: usize = 256;
/// Longest packet that is looked at; clients' first messages have 1 to 3 KiB.
const MAX_PACKET: usize = 35_000;
const KEXINIT: u8 = 20;
const COOKIE: usize = 16;
const STRICT: &str = "kex-strict-c-v00@openssh.com";

/// Names that a client knows. What nobody could read offers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// It will take strict key exchange.
    pub strict: bool,
    /// Ciphers; russh goes by those of the client's own direction.
    pub ciphers: Vec<String>,
    /// MACs of both directions.
    pub macs: [Vec<String>; 2],
}

/// How far a client's first bytes lead.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The identification is not complete.
    Nothing,
    /// It is, and the first packet is not.
    Identification,
    /// All that is to be known; an empty offer where it is something else.
    Offer(Offer),
}

/// Looks at everything that a client has sent so far.
pub fn hear(bytes: &[u8]) -> Heard {
    let Some(end) = bytes.iter().take(MAX_IDENTIFICATION).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= MAX_IDENTIFICATION {
            Heard::Offer(Offer::default())
        } else {
            Heard::Nothing
        };
    };
    let (identification, rest) = bytes.split_at(end + 1);
    if !identification.starts_with(b"SSH-") {
        return Heard::Offer(Offer::default());
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Heard::Identification };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_PACKET {
        return Heard::Offer(Offer::default());
    }
    match rest.get(..length) {
        Some(packet) => Heard::Offer(packet_offer(packet).unwrap_or_default()),
        None => Heard::Identification,
    }
}

/// `None`: another message, or one that ends too early.
fn packet_offer(packet: &[u8]) -> Option<Offer> {
    let (padding, payload) = packet.split_first()?;
    let payload = payload.get(..payload.len().checked_sub(usize::from(*padding))?)?;
    let (KEXINIT, names) = payload.split_first().map(|(kind, rest)| (*kind, rest))? else { return None };
    let mut names = names.get(COOKIE..)?;
    let mut next = || -> Option<Vec<String>> {
        let (length, rest) = names.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let list = std::str::from_utf8(rest.get(..length)?).ok()?;
        names = rest.get(length..)?;
        Some(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    let strict = next()?.iter().any(|name| name == STRICT);
    let _host_keys = next()?;
    let ciphers = next()?;
    let _of_the_other_direction = next()?;
    Some(Offer { strict, ciphers, macs: [next()?, next()?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first flight, as a client sends it.
    fn flight(kex: &str, ciphers: &str, macs: &str) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; COOKIE]);
        for list in [kex, "ssh-ed25519", ciphers, ciphers, macs, macs, "none", "none", "", ""] {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        let mut bytes = b"SSH-2.0-Test_1.0\r\n".to_vec();
        bytes.extend(u32::try_from(payload.len() + 5).unwrap().to_be_bytes());
        bytes.push(4);
        bytes.extend(payload);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn an_offer_is_read_wherever_it_is_cut() {
        let bytes = flight(&format!("curve25519-sha256,{STRICT}"), "a,b", "m");
        let offer = Offer {
            strict: true,
            ciphers: vec!["a".into(), "b".into()],
            macs: [vec!["m".into()], vec!["m".into()]],
        };
        for cut in 0..bytes.len() {
            let wanted = if cut < 18 { Heard::Nothing } else { Heard::Identification };
            assert_eq!(hear(&bytes[..cut]), wanted, "{cut}");
        }
        assert_eq!(hear(&bytes), Heard::Offer(offer.clone()));
        let more = [bytes.as_slice(), b"a guess of the exchange"].concat();
        assert_eq!(hear(&more), Heard::Offer(offer));
        assert!(matches!(hear(&flight("curve25519-sha256", "a", "m")), Heard::Offer(o) if !o.strict));
    }

    #[test]
    fn what_is_no_offer_offers_nothing() {
        let nothing = Heard::Offer(Offer::default());
        let ignore = [b"SSH-2.0-x\n".as_slice(), &[0, 0, 0, 12, 4, 2, 0, 0, 0, 2, 1, 1, 0, 0, 0, 0]].concat();
        for bytes in
            [b"GET / HTTP/1.1\r\n".to_vec(), vec![b'x'; 256], ignore, b"SSH-2.0-x\n\xff\xff\xff\xff".to_vec()]
        {
            assert_eq!(hear(&bytes), nothing, "{bytes:?}");
        }
        // a list that is longer than its packet
        let mut short = flight("k", "c", "m");
        short[18 + 4 + 1 + 1 + COOKIE] = 0x7f;
        assert_eq!(hear(&short), nothing);
    }
}
