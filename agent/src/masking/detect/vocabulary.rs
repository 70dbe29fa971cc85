//! The words that names are made of, in the languages of the countries whose ids are recognised.

use super::Families;
use super::context::word::{ABOUT, ADDRESS, KEY, METHOD, NAME, NATION, NUMBER, OPENS, REMOTE, WHOSE};

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
const AADHAAR: u64 = Families::AADHAAR.bits();
const AR: u64 = Families::AR.bits();
const AT: u64 = Families::AT.bits();
const AU: u64 = Families::AU.bits();
const BE: u64 = Families::BE.bits();
const BG: u64 = Families::BG.bits();
const BR: u64 = Families::BR.bits();
const CA: u64 = Families::CA.bits();
const CH: u64 = Families::CH.bits();
const CL: u64 = Families::CL.bits();
const CN: u64 = Families::CN.bits();
const CZ: u64 = Families::CZ.bits();
const DE: u64 = Families::DE.bits();
const DK: u64 = Families::DK.bits();
const EE: u64 = Families::EE.bits();
const ES: u64 = Families::ES.bits();
const FI: u64 = Families::FI.bits();
const FR: u64 = Families::FR.bits();
const GB: u64 = Families::GB.bits();
const HR: u64 = Families::HR.bits();
const IE: u64 = Families::IE.bits();
const IL: u64 = Families::IL.bits();
const IT: u64 = Families::IT.bits();
const KR: u64 = Families::KR.bits();
const MX: u64 = Families::MX.bits();
const NHS: u64 = Families::NHS.bits();
const NL: u64 = Families::NL.bits();
const NO: u64 = Families::NO.bits();
const PAN: u64 = Families::PAN.bits();
const PL: u64 = Families::PL.bits();
const PT: u64 = Families::PT.bits();
const RO: u64 = Families::RO.bits();
const SE: u64 = Families::SE.bits();
const SG: u64 = Families::SG.bits();
const TR: u64 = Families::TR.bits();
const US: u64 = Families::US.bits();
const ZA: u64 = Families::ZA.bits();

/// In the order of bytes.
#[rustfmt::skip]
pub(super) const VOCABULARY: &[(&str, u64)] = &[
    ("aadhaar", AADHAAR), ("aadhar", AADHAAR), ("access", OPENS), ("accesskey", PASSWORD),
    ("accesstoken", TOKEN), ("account", OPENS), ("accountkey", PASSWORD), ("achternaam", NAMES),
    ("addr", ADDRESS), ("address", ADDRESS), ("age", ABOUT), ("ahv", CH), ("ahvn", CH), ("ahvnummer", CH),
    ("algo", ABOUT), ("algorithm", ABOUT), ("apellido", NAMES), ("apellidos", NAMES), ("api", OPENS),
    ("apikey", PASSWORD), ("apisecret", PASSWORD), ("applicant", WHOSE), ("asmenskodas", EE), ("at", ABOUT),
    ("attempt", ABOUT), ("attempts", ABOUT), ("ausweisnummer", NATIONAL), ("auth", OPENS),
    ("authorization", TOKEN), ("authtoken", TOKEN), ("avs", CH), ("bday", BIRTH), ("bearer", TOKEN),
    ("beneficiary", WHOSE), ("birth", BIRTH), ("birthdate", BIRTH), ("birthday", BIRTH), ("birthdt", BIRTH),
    ("bsn", NL), ("bssid", MAC), ("burgerservice", NL), ("burgerservicenummer", NL), ("card", NUMBER),
    ("cardholder", NAMES), ("cardholdername", NAMES), ("cell", PHONE), ("cellphone", PHONE),
    ("celular", PHONE), ("change", ABOUT), ("changed", ABOUT), ("citizen", NATION), ("city", ABOUT),
    ("client", REMOTE | WHOSE), ("clientip", IP), ("clientsecret", PASSWORD), ("cnp", RO), ("code", NUMBER),
    ("codicefiscale", IT), ("cognome", NAMES), ("column", ABOUT), ("completa", WHOSE), ("completo", WHOSE),
    ("contact", WHOSE), ("contrasena", PASSWORD), ("contraseña", PASSWORD), ("contribuinte", PT),
    ("cookie", TOKEN), ("count", ABOUT), ("country", ABOUT), ("counts", ABOUT), ("cpf", BR), ("cpr", DK),
    ("cprnummer", DK), ("credential", PASSWORD), ("credentials", PASSWORD), ("cuil", AR), ("cuit", AR),
    ("curp", MX), ("customer", WHOSE), ("datanascita", BIRTH), ("datenaissance", BIRTH),
    ("dateofbirth", BIRTH), ("days", ABOUT), ("dbpassword", PASSWORD), ("dni", ES), ("dob", BIRTH),
    ("dogum", BIRTH), ("domain", ABOUT), ("doğum", BIRTH), ("efternamn", NAMES), ("efternavn", NAMES),
    ("egn", BG), ("employee", WHOSE), ("enabled", ABOUT), ("encryption", OPENS | METHOD), ("etternavn", NAMES),
    ("etunimi", NAMES), ("expiration", ABOUT), ("expired", ABOUT), ("expires", ABOUT), ("expiry", ABOUT),
    ("familia", WHOSE), ("familienname", NAMES), ("famille", WHOSE), ("family", WHOSE),
    ("familyname", NAMES), ("fax", PHONE), ("faxnumber", PHONE), ("fechanacimiento", BIRTH),
    ("file", ABOUT), ("first", WHOSE), ("firstname", NAMES), ("fiscal", NATION), ("fiscale", IT),
    ("fname", NAMES), ("fnr", NO), ("fodselsnummer", NO), ("foedselsdato", BIRTH), ("forename", NAMES),
    ("fornamn", NAMES), ("fornavn", NAMES), ("forwarded", IP), ("full", WHOSE), ("fullname", NAMES),
    ("födelsedatum", BIRTH), ("förnamn", NAMES), ("fødselsdato", BIRTH), ("fødselsnummer", NO),
    ("geb", BIRTH), ("geboorte", BIRTH), ("geboortedatum", BIRTH), ("geburtsdatum", BIRTH),
    ("geburtstag", BIRTH), ("given", WHOSE), ("givenname", NAMES), ("government", NATION), ("gsm", PHONE),
    ("guest", WHOSE), ("handy", PHONE), ("handynummer", PHONE), ("haslo", PASSWORD), ("hasło", PASSWORD),
    ("henkilotunnus", FI), ("henkilötunnus", FI), ("hetu", FI), ("hint", ABOUT), ("holder", WHOSE),
    ("host", ABOUT), ("hwaddr", MAC), ("id", NUMBER), ("ident", NUMBER), ("identification", NATION),
    ("identifier", NUMBER), ("identifikationsnummer", DE), ("identity", NATION), ("idnr", DE),
    ("idnumber", NATIONAL), ("idtoken", TOKEN), ("imie", NAMES), ("imię", NAMES), ("index", ABOUT),
    ("insee", FR), ("insurance", NATION), ("insured", WHOSE), ("insz", BE), ("ip", IP), ("ipaddr", IP),
    ("ipaddress", IP), ("ipadresse", IP), ("ips", IP), ("ipv", IP), ("isikukood", EE), ("itin", US),
    ("jumin", KR), ("jwt", TOKEN), ("kennwort", PASSWORD), ("key", KEY), ("keys", KEY), ("kimlik", TR),
    ("kundenname", NAMES), ("last", WHOSE), ("lastname", NAMES), ("legal", WHOSE), ("len", ABOUT),
    ("length", ABOUT), ("limit", ABOUT), ("lname", NAMES), ("login", REMOTE), ("lösenord", PASSWORD),
    ("mac", MAC), ("macaddr", MAC), ("macaddress", MAC), ("maiden", WHOSE), ("maidenname", NAMES),
    ("master", OPENS), ("max", ABOUT), ("member", WHOSE), ("middle", WHOSE), ("middlename", NAMES),
    ("min", ABOUT), ("mobile", PHONE), ("mobilephone", PHONE), ("mobilnummer", PHONE),
    ("mobiltelefon", PHONE), ("modified", ABOUT), ("motdepasse", PASSWORD), ("msisdn", PHONE),
    ("mysqlpwd", PASSWORD), ("naam", NAME), ("nachname", NAMES), ("nacimiento", BIRTH),
    ("naissance", BIRTH), ("name", NAME), ("namn", NAME), ("nascimento", BIRTH), ("nascita", BIRTH),
    ("nation", NATION), ("national", NATION), ("nationalid", NATIONAL), ("nationalidnumber", NATIONAL),
    ("nationalinsurance", GB), ("navn", NAME), ("nazwisko", NAMES), ("nhs", NHS), ("nie", ES), ("nif", NIF),
    ("nino", GB), ("nir", FR), ("niss", BE), ("no", NUMBER), ("nom", NAME), ("nombre", NAME),
    ("nome", NAME), ("nr", NUMBER), ("nric", SG), ("num", NUMBER), ("number", NUMBER), ("numero", NUMBER),
    ("nummer", NUMBER), ("numsecu", FR), ("numtel", PHONE), ("número", NUMBER), ("oib", HR), ("on", ABOUT),
    ("owner", WHOSE), ("pan", PAN), ("pass", PASSWORD), ("passenger", WHOSE), ("passphrase", PASSWORD),
    ("passwd", PASSWORD), ("password", PASSWORD), ("passwort", PASSWORD), ("path", ABOUT),
    ("patient", WHOSE), ("payee", WHOSE), ("payer", WHOSE), ("peer", REMOTE), ("person", WHOSE),
    ("personal", NATION | WHOSE), ("personnummer", SE | NO), ("pesel", PL), ("pgpassword", PASSWORD),
    ("phone", PHONE), ("phoneno", PHONE), ("phonenr", PHONE), ("phonenumber", PHONE), ("phones", PHONE),
    ("place", ABOUT), ("policy", ABOUT), ("portable", PHONE), ("pps", IE), ("ppsn", IE), ("ppsno", IE),
    ("prenom", NAMES), ("primernombre", WHOSE), ("private", OPENS), ("privatekey", PASSWORD),
    ("product", ABOUT), ("prénom", NAMES), ("puhelin", PHONE), ("pwd", PASSWORD), ("question", ABOUT),
    ("recipient", WHOSE), ("refreshtoken", TOKEN), ("remote", REMOTE), ("remoteip", IP),
    ("required", ABOUT), ("reset", ABOUT), ("rijksregister", BE), ("rijksregisternummer", BE),
    ("rodne", CZ), ("rodnecislo", CZ), ("rodné", CZ), ("rounds", ABOUT), ("rrn", BE | KR), ("rsaid", ZA),
    ("rufnummer", PHONE), ("rut", CL), ("salt", ABOUT), ("secret", OPENS | PASSWORD),
    ("secretkey", PASSWORD), ("secrets", PASSWORD), ("secu", FR), ("securite", FR), ("security", NATION),
    ("senha", PASSWORD), ("sessiontoken", TOKEN), ("shared", OPENS), ("sharedaccesskey", PASSWORD),
    ("shenfenzheng", CN), ("sig", TOKEN), ("signing", OPENS), ("sin", CA), ("sobrenome", NAMES),
    ("social", NATION), ("socialsecurity", US), ("socialsecuritynumber", US), ("sofinummer", NL),
    ("source", REMOTE), ("southafricanid", ZA), ("soyad", NAMES), ("soyadi", NAMES),
    ("sozialversicherungsnummer", AT), ("sshpass", PASSWORD), ("ssn", US), ("ssns", US), ("status", ABOUT),
    ("steuer", DE), ("steuerid", DE), ("steueridentifikationsnummer", DE), ("steueridnr", DE),
    ("steuernummer", DE), ("strength", ABOUT), ("student", WHOSE), ("sukunimi", NAMES), ("sur", WHOSE),
    ("surname", NAMES), ("svn", AT), ("svnr", AT), ("syntymäaika", BIRTH), ("sécu", FR), ("sécurité", FR),
    ("table", ABOUT), ("tax", NATION), ("taxid", NATIONAL), ("taxpayer", NATION), ("tckimlik", TR),
    ("tckn", TR), ("tel", PHONE), ("telefon", PHONE), ("telefone", PHONE), ("telefonnummer", PHONE),
    ("telefono", PHONE), ("telefoon", PHONE), ("telefoonnummer", PHONE), ("telephone", PHONE),
    ("telephonenumber", PHONE), ("teléfono", PHONE), ("tenant", WHOSE), ("teudat", IL), ("tfn", AU),
    ("tin", NATIONAL), ("token", TOKEN), ("tokens", TOKEN), ("ttl", ABOUT), ("type", ABOUT),
    ("types", ABOUT), ("téléphone", PHONE), ("uidai", AADHAAR), ("updated", ABOUT), ("uri", ABOUT),
    ("url", ABOUT), ("urodzenia", BIRTH), ("usage", ABOUT), ("used", ABOUT), ("user", REMOTE),
    ("userip", IP), ("userpassword", PASSWORD), ("vat", NATION), ("verified", ABOUT), ("version", ABOUT),
    ("visitor", REMOTE), ("voornaam", NAMES), ("vorname", NAMES), ("wachtwoord", PASSWORD),
    ("whatsapp", PHONE), ("wlanmac", MAC), ("zehut", IL), ("егн", BG), ("身份证", CN), ("身份证号", CN),
    ("주민등록번호", KR),
];
