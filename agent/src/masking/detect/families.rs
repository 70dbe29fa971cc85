//! What can be recognised, as a set: of what a column's name lets expect, and of what was found.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of families of sensitive values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families(u64);

macro_rules! families {
    ($($bit:literal $name:ident $text:literal,)*) => {
        impl Families {
            $(#[doc = $text] pub const $name: Families = Families(1 << $bit);)*
            const ALL: &[(Families, &str)] = &[$((Families::$name, $text),)*];
        }
    };
}

families! {
    0 EMAIL "email",
    1 PHONE "phone",
    2 CARD "card",
    3 IBAN "iban",
    4 IP "ip",
    5 MAC "mac",
    6 SECRET "secret",
    7 PASSWORD "password",
    8 TOKEN "token",
    9 BIRTH "birth",
    10 NAME "name",
    16 US "us_ssn",
    17 GB "gb_nino",
    18 NHS "gb_nhs",
    19 DE "de_steuer_id",
    20 FR "fr_nir",
    21 ES "es_dni",
    22 IT "it_codice_fiscale",
    23 NL "nl_bsn",
    24 BE "be_rijksregister",
    25 PL "pl_pesel",
    26 SE "se_personnummer",
    27 FI "fi_hetu",
    28 PT "pt_nif",
    29 BR "br_cpf",
    30 AADHAAR "in_aadhaar",
    31 PAN "in_pan",
    32 CN "cn_resident",
    33 KR "kr_rrn",
    34 TR "tr_tckn",
    35 CH "ch_ahv",
    36 DK "dk_cpr",
    37 NO "no_fodselsnummer",
    38 CZ "cz_rodne_cislo",
    39 RO "ro_cnp",
    40 BG "bg_egn",
    41 HR "hr_oib",
    42 EE "ee_isikukood",
    43 AT "at_svnr",
    44 CA "ca_sin",
    45 AU "au_tfn",
    46 ZA "za_id",
    47 MX "mx_curp",
    48 SG "sg_nric",
    49 IE "ie_pps",
    50 CL "cl_rut",
    51 AR "ar_cuit",
    52 IL "il_id",
}

impl Families {
    /// None of them.
    pub const NONE: Families = Families(0);
    /// Every national id.
    pub const NATIONAL: Families = Families(0x001f_ffff_ffff_0000);

    /// A set from its bits, for tables.
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// Nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The two have something in common.
    pub const fn intersects(self, other: Families) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of what is in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(family, _)| self.intersects(*family)).map(|(_, name)| *name)
    }
}

impl BitOr for Families {
    type Output = Families;

    fn bitor(self, other: Families) -> Families {
        Families(self.0 | other.0)
    }
}

impl BitOrAssign for Families {
    fn bitor_assign(&mut self, other: Families) {
        self.0 |= other.0;
    }
}

impl BitAnd for Families {
    type Output = Families;

    fn bitand(self, other: Families) -> Families {
        Families(self.0 & other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_national_ids_are_those_from_16_on() {
        let national = Families::ALL.iter().filter(|(family, _)| family.bits() >= 1 << 16);
        assert_eq!(national.fold(Families::NONE, |set, (family, _)| set | *family), Families::NATIONAL);
    }
}
