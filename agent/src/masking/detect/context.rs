//! What the name of a column (or of a key in JSON, hstore, XML or `key=value`) says about its values.
//!
//! Must hold: a name that says anything has a word of [`VOCABULARY`] in it, so that the prefilter may look for those.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::Families;

/// Words are no longer.
const LONGEST: usize = 32;

/// Grammar of names: what takes two words to say. Above the families' bits.
mod word {
    /// `name`, which says something together with whose.
    pub(super) const NAME: u64 = 1 << 63;
    pub(super) const WHOSE: u64 = 1 << 62;
    /// `key`, which says something together with what it opens.
    pub(super) const KEY: u64 = 1 << 61;
    pub(super) const OPENS: u64 = 1 << 60;
    /// `national`, `tax` …, which say something together with `id` or `number`.
    pub(super) const NATION: u64 = 1 << 59;
    pub(super) const NUMBER: u64 = 1 << 58;
    /// Something about the thing and not itself: `password_changed_at`.
    pub(super) const ABOUT: u64 = 1 << 57;
    /// `remote`, `client` …, which say something together with `addr`.
    pub(super) const REMOTE: u64 = 1 << 56;
    pub(super) const ADDRESS: u64 = 1 << 55;
    pub(super) const GRAMMAR: u64 = 0x1ff << 55;
}
use word::{ABOUT, ADDRESS, KEY, NAME, NATION, NUMBER, OPENS, REMOTE, WHOSE};

/// The families that a name lets expect. Pure; asked once a column, and once a key inside a value.
#[must_use]
pub fn hints(name: &[u8]) -> Families {
    let mut seen = 0;
    let mut rest = name;
    let mut lower = [0; LONGEST];
    while let Some(word) = next_word(&mut rest) {
        if let Some(space) = lower.get_mut(..word.len()) {
            space.copy_from_slice(word);
            space.make_ascii_lowercase();
            seen |= meaning(space);
        }
    }
    let both = |a: u64, b: u64| seen & a != 0 && seen & b != 0;
    let mut found = Families::from_bits(seen & !word::GRAMMAR);
    if both(NAME, WHOSE) {
        found |= Families::NAME;
    }
    if both(KEY, OPENS) {
        found |= Families::PASSWORD;
    }
    if both(NATION, NUMBER) {
        found |= Families::NATIONAL;
    }
    if both(REMOTE, ADDRESS) {
        found |= Families::IP;
    }
    if seen & ABOUT != 0 {
        let whole = Families::PASSWORD | Families::TOKEN | Families::NAME;
        found = Families::from_bits(found.bits() & !whole.bits());
    }
    found
}

fn meaning(word: &[u8]) -> u64 {
    let at = VOCABULARY.binary_search_by(|(known, _)| known.as_bytes().cmp(word));
    at.ok().and_then(|at| VOCABULARY.get(at)).map_or(0, |(_, meaning)| *meaning)
}

/// The next word of `snake_case`, `camelCase`, `IPAddress` or prose; bytes of other alphabets are letters.
fn next_word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let letter = |b: &u8| b.is_ascii_alphabetic() || *b >= 0x80;
    let start = rest.iter().position(letter)?;
    let from = rest.get(start..)?;
    let mut end = 1;
    while let Some(byte) = from.get(end).filter(|b| letter(b)) {
        let before_upper = from.get(end - 1).is_some_and(u8::is_ascii_uppercase);
        let then_lower = from.get(end + 1).is_some_and(u8::is_ascii_lowercase);
        if byte.is_ascii_uppercase() && (!before_upper || then_lower) {
            break;
        }
        end += 1;
    }
    *rest = from.get(end..).unwrap_or_default();
    from.get(..end)
}

/// Whether any word of the vocabulary is somewhere in `bytes`, as a part of a word or of a longer one.
pub(in super::super) fn may_name(bytes: &[u8]) -> bool {
    // words of grammar alone say nothing: one of each pair is looked for
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let needed = |meaning: u64| meaning & !(WHOSE | OPENS | NATION | ABOUT | REMOTE | NUMBER) != 0;
        // a nation's word is rarer than `id`
        let words = VOCABULARY.iter().filter(|(_, meaning)| needed(*meaning) || meaning & NATION != 0);
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).prefilter(false).kind(Some(AhoCorasickKind::DFA));
        builder.build(words.map(|(word, _)| word)).ok()
    });
    WORDS.as_ref().is_none_or(|words| words.is_match(bytes))
}

const PHONE: u64 = Families::PHONE.bits();
const BIRTH: u64 = Families::BIRTH.bits();
const NAMES: u64 = Families::NAME.bits();
const IP: u64 = Families::IP.bits();
const MAC: u64 = Families::MAC.bits();
const PASSWORD: u64 = Families::PASSWORD.bits();
const TOKEN: u64 = Families::TOKEN.bits();
const NATIONAL: u64 = Families::NATIONAL.bits();
/// Many countries have a number of that name.
const NIF: u64 = Families::ES.bits() | Families::PT.bits();

/// In the order of bytes.
const VOCABULARY: &[(&str, u64)] = &[
    ("aadhaar", Families::AADHAAR.bits()),
    ("aadhar", Families::AADHAAR.bits()),
    ("access", OPENS),
    ("accesskey", PASSWORD),
    ("accesstoken", TOKEN),
    ("account", OPENS),
    ("accountkey", PASSWORD),
    ("achternaam", NAMES),
    ("addr", ADDRESS),
    ("address", ADDRESS),
    ("age", ABOUT),
    ("ahv", Families::CH.bits()),
    ("ahvn", Families::CH.bits()),
    ("ahvnummer", Families::CH.bits()),
    ("algo", ABOUT),
    ("algorithm", ABOUT),
    ("apellido", NAMES),
    ("apellidos", NAMES),
    ("api", OPENS),
    ("apikey", PASSWORD),
    ("apisecret", PASSWORD),
    ("applicant", WHOSE),
    ("asmenskodas", Families::EE.bits()),
    ("at", ABOUT),
    ("attempt", ABOUT),
    ("attempts", ABOUT),
    ("ausweisnummer", NATIONAL),
    ("auth", OPENS),
    ("authorization", TOKEN),
    ("authtoken", TOKEN),
    ("avs", Families::CH.bits()),
    ("bday", BIRTH),
    ("bearer", TOKEN),
    ("beneficiary", WHOSE),
    ("birth", BIRTH),
    ("birthdate", BIRTH),
    ("birthday", BIRTH),
    ("birthdt", BIRTH),
    ("bsn", Families::NL.bits()),
    ("bssid", MAC),
    ("burgerservice", Families::NL.bits()),
    ("burgerservicenummer", Families::NL.bits()),
    ("card", NUMBER),
    ("cardholder", NAMES),
    ("cardholdername", NAMES),
    ("cell", PHONE),
    ("cellphone", PHONE),
    ("celular", PHONE),
    ("change", ABOUT),
    ("changed", ABOUT),
    ("citizen", NATION),
    ("city", ABOUT),
    ("client", REMOTE | WHOSE),
    ("clientip", IP),
    ("clientsecret", PASSWORD),
    ("cnp", Families::RO.bits()),
    ("code", NUMBER),
    ("codicefiscale", Families::IT.bits()),
    ("cognome", NAMES),
    ("column", ABOUT),
    ("completa", WHOSE),
    ("completo", WHOSE),
    ("contact", WHOSE),
    ("contrasena", PASSWORD),
    ("contraseña", PASSWORD),
    ("contribuinte", Families::PT.bits()),
    ("cookie", TOKEN),
    ("count", ABOUT),
    ("country", ABOUT),
    ("counts", ABOUT),
    ("cpf", Families::BR.bits()),
    ("cpr", Families::DK.bits()),
    ("cprnummer", Families::DK.bits()),
    ("credential", PASSWORD),
    ("credentials", PASSWORD),
    ("cuil", Families::AR.bits()),
    ("cuit", Families::AR.bits()),
    ("curp", Families::MX.bits()),
    ("customer", WHOSE),
    ("datanascita", BIRTH),
    ("datenaissance", BIRTH),
    ("dateofbirth", BIRTH),
    ("days", ABOUT),
    ("dbpassword", PASSWORD),
    ("dni", Families::ES.bits()),
    ("dob", BIRTH),
    ("dogum", BIRTH),
    ("domain", ABOUT),
    ("doğum", BIRTH),
    ("efternamn", NAMES),
    ("efternavn", NAMES),
    ("egn", Families::BG.bits()),
    ("employee", WHOSE),
    ("enabled", ABOUT),
    ("encryption", OPENS),
    ("etternavn", NAMES),
    ("etunimi", NAMES),
    ("expiration", ABOUT),
    ("expired", ABOUT),
    ("expires", ABOUT),
    ("expiry", ABOUT),
    ("familia", WHOSE),
    ("familienname", NAMES),
    ("famille", WHOSE),
    ("family", WHOSE),
    ("familyname", NAMES),
    ("fax", PHONE),
    ("faxnumber", PHONE),
    ("fechanacimiento", BIRTH),
    ("file", ABOUT),
    ("first", WHOSE),
    ("firstname", NAMES),
    ("fiscal", NATION),
    ("fiscale", Families::IT.bits()),
    ("fname", NAMES),
    ("fnr", Families::NO.bits()),
    ("fodselsnummer", Families::NO.bits()),
    ("foedselsdato", BIRTH),
    ("forename", NAMES),
    ("fornamn", NAMES),
    ("fornavn", NAMES),
    ("forwarded", IP),
    ("full", WHOSE),
    ("fullname", NAMES),
    ("födelsedatum", BIRTH),
    ("förnamn", NAMES),
    ("fødselsdato", BIRTH),
    ("fødselsnummer", Families::NO.bits()),
    ("geb", BIRTH),
    ("geboorte", BIRTH),
    ("geboortedatum", BIRTH),
    ("geburtsdatum", BIRTH),
    ("geburtstag", BIRTH),
    ("given", WHOSE),
    ("givenname", NAMES),
    ("government", NATION),
    ("gsm", PHONE),
    ("guest", WHOSE),
    ("handy", PHONE),
    ("handynummer", PHONE),
    ("haslo", PASSWORD),
    ("hasło", PASSWORD),
    ("henkilotunnus", Families::FI.bits()),
    ("henkilötunnus", Families::FI.bits()),
    ("hetu", Families::FI.bits()),
    ("hint", ABOUT),
    ("holder", WHOSE),
    ("host", ABOUT),
    ("hwaddr", MAC),
    ("id", NUMBER),
    ("ident", NUMBER),
    ("identification", NATION),
    ("identifier", NUMBER),
    ("identifikationsnummer", Families::DE.bits()),
    ("identity", NATION),
    ("idnr", Families::DE.bits()),
    ("idnumber", NATIONAL),
    ("idtoken", TOKEN),
    ("imie", NAMES),
    ("imię", NAMES),
    ("index", ABOUT),
    ("insee", Families::FR.bits()),
    ("insurance", NATION),
    ("insured", WHOSE),
    ("insz", Families::BE.bits()),
    ("ip", IP),
    ("ipaddr", IP),
    ("ipaddress", IP),
    ("ipadresse", IP),
    ("ips", IP),
    ("ipv", IP),
    ("isikukood", Families::EE.bits()),
    ("itin", Families::US.bits()),
    ("jumin", Families::KR.bits()),
    ("jwt", TOKEN),
    ("kennwort", PASSWORD),
    ("key", KEY),
    ("keys", KEY),
    ("kimlik", Families::TR.bits()),
    ("kundenname", NAMES),
    ("last", WHOSE),
    ("lastname", NAMES),
    ("legal", WHOSE),
    ("len", ABOUT),
    ("length", ABOUT),
    ("limit", ABOUT),
    ("lname", NAMES),
    ("login", REMOTE),
    ("lösenord", PASSWORD),
    ("mac", MAC),
    ("macaddr", MAC),
    ("macaddress", MAC),
    ("maiden", WHOSE),
    ("maidenname", NAMES),
    ("master", OPENS),
    ("max", ABOUT),
    ("member", WHOSE),
    ("middle", WHOSE),
    ("middlename", NAMES),
    ("min", ABOUT),
    ("mobile", PHONE),
    ("mobilephone", PHONE),
    ("mobilnummer", PHONE),
    ("mobiltelefon", PHONE),
    ("modified", ABOUT),
    ("motdepasse", PASSWORD),
    ("msisdn", PHONE),
    ("mysqlpwd", PASSWORD),
    ("naam", NAME),
    ("nachname", NAMES),
    ("nacimiento", BIRTH),
    ("naissance", BIRTH),
    ("name", NAME),
    ("namn", NAME),
    ("nascimento", BIRTH),
    ("nascita", BIRTH),
    ("nation", NATION),
    ("national", NATION),
    ("nationalid", NATIONAL),
    ("nationalidnumber", NATIONAL),
    ("nationalinsurance", Families::GB.bits()),
    ("navn", NAME),
    ("nazwisko", NAMES),
    ("nhs", Families::NHS.bits()),
    ("nie", Families::ES.bits()),
    ("nif", NIF),
    ("nino", Families::GB.bits()),
    ("nir", Families::FR.bits()),
    ("niss", Families::BE.bits()),
    ("no", NUMBER),
    ("nom", NAME),
    ("nombre", NAME),
    ("nome", NAME),
    ("nr", NUMBER),
    ("nric", Families::SG.bits()),
    ("num", NUMBER),
    ("number", NUMBER),
    ("numero", NUMBER),
    ("nummer", NUMBER),
    ("numsecu", Families::FR.bits()),
    ("numtel", PHONE),
    ("número", NUMBER),
    ("oib", Families::HR.bits()),
    ("on", ABOUT),
    ("owner", WHOSE),
    ("pan", Families::PAN.bits()),
    ("pass", PASSWORD),
    ("passenger", WHOSE),
    ("passphrase", PASSWORD),
    ("passwd", PASSWORD),
    ("password", PASSWORD),
    ("passwort", PASSWORD),
    ("path", ABOUT),
    ("patient", WHOSE),
    ("payee", WHOSE),
    ("payer", WHOSE),
    ("peer", REMOTE),
    ("person", WHOSE),
    ("personal", NATION | WHOSE),
    ("personnummer", Families::SE.bits() | Families::NO.bits()),
    ("pesel", Families::PL.bits()),
    ("pgpassword", PASSWORD),
    ("phone", PHONE),
    ("phoneno", PHONE),
    ("phonenr", PHONE),
    ("phonenumber", PHONE),
    ("phones", PHONE),
    ("place", ABOUT),
    ("policy", ABOUT),
    ("portable", PHONE),
    ("pps", Families::IE.bits()),
    ("ppsn", Families::IE.bits()),
    ("ppsno", Families::IE.bits()),
    ("prenom", NAMES),
    ("primernombre", WHOSE),
    ("private", OPENS),
    ("privatekey", PASSWORD),
    ("product", ABOUT),
    ("prénom", NAMES),
    ("puhelin", PHONE),
    ("pwd", PASSWORD),
    ("question", ABOUT),
    ("recipient", WHOSE),
    ("refreshtoken", TOKEN),
    ("remote", REMOTE),
    ("remoteip", IP),
    ("required", ABOUT),
    ("reset", ABOUT),
    ("rijksregister", Families::BE.bits()),
    ("rijksregisternummer", Families::BE.bits()),
    ("rodne", Families::CZ.bits()),
    ("rodnecislo", Families::CZ.bits()),
    ("rodné", Families::CZ.bits()),
    ("rounds", ABOUT),
    ("rrn", Families::BE.bits() | Families::KR.bits()),
    ("rsaid", Families::ZA.bits()),
    ("rufnummer", PHONE),
    ("rut", Families::CL.bits()),
    ("salt", ABOUT),
    ("secret", OPENS | PASSWORD),
    ("secretkey", PASSWORD),
    ("secrets", PASSWORD),
    ("secu", Families::FR.bits()),
    ("securite", Families::FR.bits()),
    ("security", NATION),
    ("senha", PASSWORD),
    ("sessiontoken", TOKEN),
    ("shared", OPENS),
    ("sharedaccesskey", PASSWORD),
    ("shenfenzheng", Families::CN.bits()),
    ("sig", TOKEN),
    ("signing", OPENS),
    ("sin", Families::CA.bits()),
    ("sobrenome", NAMES),
    ("social", NATION),
    ("socialsecurity", Families::US.bits()),
    ("socialsecuritynumber", Families::US.bits()),
    ("sofinummer", Families::NL.bits()),
    ("source", REMOTE),
    ("southafricanid", Families::ZA.bits()),
    ("soyad", NAMES),
    ("soyadi", NAMES),
    ("sozialversicherungsnummer", Families::AT.bits()),
    ("sshpass", PASSWORD),
    ("ssn", Families::US.bits()),
    ("ssns", Families::US.bits()),
    ("status", ABOUT),
    ("steuer", Families::DE.bits()),
    ("steuerid", Families::DE.bits()),
    ("steueridentifikationsnummer", Families::DE.bits()),
    ("steueridnr", Families::DE.bits()),
    ("steuernummer", Families::DE.bits()),
    ("strength", ABOUT),
    ("student", WHOSE),
    ("sukunimi", NAMES),
    ("sur", WHOSE),
    ("surname", NAMES),
    ("svn", Families::AT.bits()),
    ("svnr", Families::AT.bits()),
    ("syntymäaika", BIRTH),
    ("sécu", Families::FR.bits()),
    ("sécurité", Families::FR.bits()),
    ("table", ABOUT),
    ("tax", NATION),
    ("taxid", NATIONAL),
    ("taxpayer", NATION),
    ("tckimlik", Families::TR.bits()),
    ("tckn", Families::TR.bits()),
    ("tel", PHONE),
    ("telefon", PHONE),
    ("telefone", PHONE),
    ("telefonnummer", PHONE),
    ("telefono", PHONE),
    ("telefoon", PHONE),
    ("telefoonnummer", PHONE),
    ("telephone", PHONE),
    ("telephonenumber", PHONE),
    ("teléfono", PHONE),
    ("tenant", WHOSE),
    ("teudat", Families::IL.bits()),
    ("tfn", Families::AU.bits()),
    ("tin", NATIONAL),
    ("token", TOKEN),
    ("tokens", TOKEN),
    ("ttl", ABOUT),
    ("type", ABOUT),
    ("types", ABOUT),
    ("téléphone", PHONE),
    ("uidai", Families::AADHAAR.bits()),
    ("updated", ABOUT),
    ("uri", ABOUT),
    ("url", ABOUT),
    ("urodzenia", BIRTH),
    ("usage", ABOUT),
    ("used", ABOUT),
    ("user", REMOTE),
    ("userip", IP),
    ("userpassword", PASSWORD),
    ("vat", NATION),
    ("verified", ABOUT),
    ("version", ABOUT),
    ("visitor", REMOTE),
    ("voornaam", NAMES),
    ("vorname", NAMES),
    ("wachtwoord", PASSWORD),
    ("whatsapp", PHONE),
    ("wlanmac", MAC),
    ("zehut", Families::IL.bits()),
    ("егн", Families::BG.bits()),
    ("身份证", Families::CN.bits()),
    ("身份证号", Families::CN.bits()),
    ("주민등록번호", Families::KR.bits()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_sorted_and_short_enough() {
        assert!(VOCABULARY.is_sorted_by(|a, b| a.0 < b.0));
        assert!(VOCABULARY.iter().all(|(word, _)| word.len() <= LONGEST));
        assert!(VOCABULARY.iter().all(|(word, _)| *word == word.to_ascii_lowercase()));
    }

    #[test]
    fn names_in_several_styles_and_languages() {
        for (name, expected) in [
            ("phone_number", Families::PHONE),
            ("customerPhone2", Families::PHONE),
            ("Téléphone", Families::PHONE),
            ("telefonnummer", Families::PHONE),
            ("dateOfBirth", Families::BIRTH),
            ("DOB", Families::BIRTH),
            ("geburtsdatum", Families::BIRTH),
            ("fecha_nacimiento", Families::BIRTH),
            ("first_name", Families::NAME),
            ("lastName", Families::NAME),
            ("Nachname", Families::NAME),
            ("customer.fullName", Families::NAME),
            ("prénom", Families::NAME),
            ("clientIPAddress", Families::IP),
            ("remote_addr", Families::IP),
            ("ipv4", Families::IP),
            ("mac_address", Families::MAC),
            ("PGPASSWORD", Families::PASSWORD),
            ("aws_secret_access_key", Families::PASSWORD),
            ("AccountKey", Families::PASSWORD),
            ("refreshToken", Families::TOKEN),
            ("patient_ssn", Families::US),
            ("BSN", Families::NL),
            ("codiceFiscale", Families::IT),
            ("tax_id", Families::NATIONAL),
            ("nationalIdNumber", Families::NATIONAL),
            ("my ssn is ", Families::US),
        ] {
            assert_eq!(hints(name.as_bytes()), expected, "{name}");
            assert!(may_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_that_say_nothing() {
        for name in [
            "id",
            "order_id",
            "name",
            "product_name",
            "file_name",
            "description",
            "zip",
            "shipping",
            "hotel",
            "primary_key",
            "key",
            "password_changed_at",
            "password_length",
            "token_count",
            "using",
            "tokenizer",
            "machine",
            "sinus",
            "status",
            "address",
            "amount",
            "created_at",
            "taxable",
            "number",
            "",
        ] {
            assert_eq!(hints(name.as_bytes()), Families::NONE, "{name}");
        }
    }
}
