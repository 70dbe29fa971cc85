"""Sluice's detectors and Microsoft Presidio's recognisers over the same labelled columns, in one run.

The columns come from Faker, in many locales, with a fixed seed; what Faker has no generator for is built here by the
rules of the authority that issues it. Columns of a kind that is not sensitive (random ids, hashes, times, prices) are
there to be left alone. A value counts as found when it is recognised as anything; a value of a harmless column that is
recognised counts against the type that it is taken for. Presidio is given every recogniser that needs no language
model, the column's name as its context (with the factor and the least score of its own enhancer), and the threshold at
which its F1 is best. URL and DATE_TIME are not held against it.

    compare.py DETECT_BINARY [--json FILE] [--values N]
"""

import argparse, base64, inspect, json, random, re, subprocess, sys, time, uuid

from faker import Faker

SEED = 20261125


def digits(r, n):
    return "".join(r.choice("0123456789") for _ in range(n))


def text(r, n, alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"):
    return "".join(r.choice(alphabet) for _ in range(n))


def steuer_id(r):
    """§ 139b AO: ten digits of which one comes twice, ISO 7064 MOD 11,10."""
    while True:
        some = r.sample("0123456789", 9)
        some.append(r.choice(some))
        r.shuffle(some)
        if some[0] != "0":
            break
    product = 10
    for digit in some:
        total = (product + int(digit)) % 10 or 10
        product = total * 2 % 11
    return "".join(some) + str((11 - product) % 10)


def nino(r):
    """HMRC: prefixes that are given out."""
    while True:
        prefix = r.choice("ABCEGHJKLMNOPRSTWXYZ") + r.choice("ABCEGHJKLMNPRSTWXYZ")
        if prefix not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"):
            return f"{prefix}{digits(r, 6)}{r.choice('ABCD')}"


def nhs(r):
    while True:
        nine = digits(r, 9)
        check = 11 - sum(int(d) * w for d, w in zip(nine, range(10, 1, -1))) % 11
        if check != 10:
            return nine + str(check % 11)


def tfn(r):
    while True:
        number = digits(r, 9)
        if sum(int(d) * w for d, w in zip(number, (1, 4, 3, 7, 5, 8, 6, 9, 10))) % 11 == 0:
            return number


def jwt(r):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': digits(r, 10)})}.{text(r, 43)}"


def columns(count):
    """(name, type or None, values)"""
    r = random.Random(SEED)
    out = []

    def add(name, kind, make, locale=None):
        faker = None
        if locale:
            faker = Faker(locale)
            faker.seed_instance(SEED)
        out.append((name, kind, [make(faker) if faker else make(r) for _ in range(count)]))

    for locale in ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "sv_SE", "pt_BR", "ja_JP", "en_IN"):
        add("phone_number", "phone", lambda f: f.phone_number(), locale)
    for locale in ("en_US", "de_DE", "fr_FR", "es_ES", "pl_PL", "sv_SE", "ru_RU", "zh_CN"):
        add("email", "email", lambda f: f.email(), locale)
        add("first_name", "name", lambda f: f.first_name(), locale)
        add("last_name", "name", lambda f: f.last_name(), locale)
    for locale in ("en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL"):
        add("account", "iban", lambda f: f.iban(), locale)
    add("card_number", "card", lambda f: f.credit_card_number("visa16"), "en_US")
    add("card_number", "card", lambda f: f.credit_card_number("mastercard"), "en_US")
    add("card_number", "card", lambda f: f.credit_card_number("amex"), "en_US")
    add("date_of_birth", "birth", lambda f: f.date_of_birth().isoformat(), "en_US")
    add("geburtsdatum", "birth", lambda f: f.date_of_birth().strftime("%d.%m.%Y"), "de_DE")
    add("client_ip", "ip", lambda f: f.ipv4(), "en_US")
    add("remote_addr", "ip", lambda f: f.ipv6(), "en_US")
    add("mac_address", "mac", lambda f: f.mac_address(), "en_US")
    for name, locale, method in (
        ("ssn", "en_US", "ssn"), ("nir", "fr_FR", "ssn"), ("dni", "es_ES", "nif"), ("nie", "es_ES", "nie"),
        ("codice_fiscale", "it_IT", "ssn"), ("bsn", "nl_NL", "ssn"), ("rijksregisternummer", "nl_BE", "ssn"),
        ("pesel", "pl_PL", "pesel"), ("personnummer", "sv_SE", "ssn"), ("henkilotunnus", "fi_FI", "ssn"),
        ("cpf", "pt_BR", "cpf"), ("aadhaar", "en_IN", "aadhaar_id"), ("national_id", "zh_CN", "ssn"),
        ("rrn", "ko_KR", "ssn"), ("tckn", "tr_TR", "ssn"), ("ahv_nummer", "de_CH", "ssn"),
        ("fodselsnummer", "no_NO", "ssn"), ("rodne_cislo", "cs_CZ", "birth_number"), ("cnp", "ro_RO", "ssn"),
        ("oib", "hr_HR", "ssn"), ("isikukood", "et_EE", "ssn"), ("svnr", "de_AT", "ssn"), ("sin", "en_CA", "ssn"),
        ("curp", "es_MX", "curp"), ("rut", "es_CL", "person_rut"), ("national_id", "he_IL", "ssn"),
    ):
        add(name, "id " + locale[-2:], lambda f: getattr(f, method)(), locale)
    add("nif", "id PT", lambda f: re.sub(r"\D", "", f.vat_id()), "pt_PT")
    add("steuer_id", "id DE", steuer_id)
    add("nino", "id GB", nino)
    add("nhs_number", "id GB", nhs)
    add("tfn", "id AU", tfn)
    add("value", "secret", lambda r: "AKIA" + text(r, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
    add("value", "secret", lambda r: "ghp_" + text(r, 36))
    add("value", "secret", lambda r: "github_pat_" + text(r, 22) + "_" + text(r, 59))
    add("value", "secret", lambda r: "glpat-" + text(r, 20))
    add("value", "secret", lambda r: "sk_live_" + text(r, 24))
    add("value", "secret", lambda r: "SG." + text(r, 22) + "." + text(r, 43))
    add("value", "secret", lambda r: "AIza" + text(r, 35))
    add("value", "secret", lambda r: "npm_" + text(r, 36))
    add("value", "secret", jwt)
    add("dsn", "password", lambda r: f"postgres://app:{text(r, 14)}@db{r.randint(1, 9)}:5432/shop")
    add("settings", "password", lambda r: f"host=db{r.randint(1, 9)} user=app password={text(r, 12)} sslmode=require")
    # in running text, and in documents
    add("note", "email", lambda f: f"Customer wrote from {f.email()} about order {f.random_int()}", "en_US")
    add("note", "card", lambda f: f"paid with {f.credit_card_number('visa16')} on {f.date()}", "en_US")
    add("note", "id US", lambda f: f"ssn on file is {f.ssn()}", "en_US")
    add("body", "phone", lambda f: json.dumps({"id": f.random_int(), "contact": {"phone": f.phone_number()}}), "de_DE")
    add("body", "name", lambda f: json.dumps({"id": f.random_int(), "last_name": f.last_name()}), "en_US")
    # what has to be left alone
    add("id", None, lambda r: digits(r, 9))
    add("order_id", None, lambda r: r.choice("123456789") + digits(r, 9))
    add("ref", None, lambda r: r.choice("123456789") + digits(r, 10))
    add("ref", None, lambda r: r.choice("123456789") + digits(r, 12))
    add("external_id", None, lambda r: r.choice("123456789") + digits(r, 15))
    add("snowflake", None, lambda r: str(r.randint(10**17, 10**18 - 1)))
    add("created_ms", None, lambda r: str(r.randint(1_600_000_000_000, 1_800_000_000_000)))
    add("created_at", None, lambda f: f.date_time().isoformat(" ") + "+00", "en_US")
    add("order_no", None, lambda r: f"{r.randint(2015, 2026)}-{digits(r, 6)}")
    add("sku", None, lambda r: f"{text(r, 3, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')}-{digits(r, 5)}")
    add("batch", None, lambda r: f"{text(r, 2, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{digits(r, 6)}{text(r, 1, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')}")
    add("md5", None, lambda r: text(r, 32, "0123456789abcdef"))
    add("sha256", None, lambda r: text(r, 64, "0123456789abcdef"))
    add("request_id", None, lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)))
    add("price", None, lambda r: f"{r.randint(0, 99999)}.{digits(r, 2)}")
    add("version", None, lambda r: f"{r.randint(0, 20)}.{r.randint(0, 40)}.{r.randint(0, 200)}")
    add("ean", None, lambda f: f.ean13(), "en_US")
    add("product_name", None, lambda f: f.catch_phrase(), "en_US")
    add("description", None, lambda f: f.sentence(), "en_US")
    add("city", None, lambda f: f.city(), "de_DE")
    add("position", None, lambda f: f"{f.latitude()}, {f.longitude()}", "en_US")
    add("user_agent", None, lambda f: f.user_agent(), "en_US")
    return out


# entities of Presidio that stand for more than one of the types here are none of them
ENTITIES = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "mac", "DATE_TIME": "birth", "US_SSN": "id US", "US_ITIN": "id US", "UK_NINO": "id GB",
    "UK_NHS": "id GB", "DE_TAX_ID": "id DE", "ES_NIF": "id ES", "ES_NIE": "id ES", "IT_FISCAL_CODE": "id IT",
    "PL_PESEL": "id PL", "SE_PERSONNUMMER": "id SE", "FI_PERSONAL_IDENTITY_CODE": "id FI", "IN_AADHAAR": "id IN",
    "KR_RRN": "id KR", "TR_NATIONAL_ID": "id TR", "CA_SIN": "id CA", "AU_TFN": "id AU", "SG_NRIC_FIN": "id SG",
}
OURS = {
    "us_ssn": "id US", "gb_nino": "id GB", "gb_nhs": "id GB", "de_steuer_id": "id DE", "fr_nir": "id FR", "es_dni": "id ES",
    "it_codice_fiscale": "id IT", "nl_bsn": "id NL", "be_rijksregister": "id BE", "pl_pesel": "id PL",
    "se_personnummer": "id SE", "fi_hetu": "id FI", "pt_nif": "id PT", "br_cpf": "id BR", "in_aadhaar": "id IN",
    "cn_resident": "id CN", "kr_rrn": "id KR", "tr_tckn": "id TR", "ch_ahv": "id CH", "no_fodselsnummer": "id NO",
    "cz_rodne_cislo": "id CZ", "ro_cnp": "id RO", "hr_oib": "id HR", "ee_isikukood": "id EE", "at_svnr": "id AT",
    "ca_sin": "id CA", "au_tfn": "id AU", "mx_curp": "id MX", "cl_rut": "id CL", "il_id": "id IL",
}
THRESHOLDS = (0.01, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def recognisers():
    import presidio_analyzer.predefined_recognizers as predefined
    import tldextract
    from presidio_analyzer import PatternRecognizer

    # the list of suffixes that comes with the package: nothing is fetched while time is measured
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    found = []
    for _, kind in inspect.getmembers(predefined, inspect.isclass):
        pattern = issubclass(kind, PatternRecognizer) and kind.__name__ != "UrlRecognizer"
        if pattern or kind.__name__ == "PhoneRecognizer":
            one = kind(supported_language="en")
            # an entity that is none of the types here can only count against it
            if any(entity in ENTITIES for entity in one.supported_entities):
                found.append(one)
    return found


def presidio(data):
    """For each column and value the recognised (type, score)s; the seconds that it took."""
    found, all_recognisers, seconds = [], recognisers(), 0.0
    for name, _, values in data:
        words = name.replace("_", " ").lower()
        boosted = {id(r): any(w.lower() in words for w in r.context or ()) for r in all_recognisers}
        column = []
        for value in values:
            start = time.perf_counter()
            raw = [(r, x) for r in all_recognisers for x in r.analyze(value, r.supported_entities, None) or ()]
            seconds += time.perf_counter() - start
            column.append([
                (ENTITIES[x.entity_type], max(0.4, min(1.0, x.score + 0.35)) if boosted[id(r)] else x.score)
                for r, x in raw if x.entity_type in ENTITIES
            ])
        found.append(column)
    return found, seconds


def scores(data, found):
    """Per type (true positives, false negatives, false positives); false positives per harmless column."""
    types, harmless = {}, {}
    for (name, kind, _), column in zip(data, found):
        for recognised in column:
            if kind is not None:
                counts = types.setdefault(kind, [0, 0, 0])
                counts[0 if recognised else 1] += 1
                continue
            held_against = [t for t in recognised if t != "birth"]
            harmless.setdefault(name, [0, 0])[1] += 1
            if held_against:
                harmless[name][0] += 1
                types.setdefault(held_against[0], [0, 0, 0])[2] += 1
    return types, harmless


def f1(true, missed, false):
    precision = true / (true + false) if true + false else 0.0
    recall = true / (true + missed) if true + missed else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def overall(types, only=None):
    kept = [counts for kind, counts in types.items() if only is None or kind in only]
    return f1(*(sum(column) for column in zip(*kept)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--json")
    parser.add_argument("--values", type=int, default=100)
    options = parser.parse_args()
    data = columns(options.values)
    count = sum(len(values) for _, _, values in data)
    size = sum(len(value.encode()) for _, _, values in data for value in values)
    print(f"{len(data)} columns, {count} values, {size} bytes; Faker's seed {SEED}")

    asked = json.dumps([{"column": name, "values": values} for name, _, values in data])
    told = subprocess.run([options.binary], input=asked, capture_output=True, text=True, check=True).stdout
    report = json.loads(told)
    named = lambda columns: [[[OURS.get(t, t) for t in value] for value in column] for column in columns]
    ours, our_harmless = scores(data, named(report["with_name"]))
    blind, _ = scores(data, named(report["without_name"]))

    theirs = None
    try:
        raw, seconds = presidio(data)
        at = {}
        for threshold in THRESHOLDS:
            at[threshold] = scores(data, [[[t for t, s in v if s >= threshold] for v in c] for c in raw])
        best = max(THRESHOLDS, key=lambda threshold: overall(at[threshold][0])[2])
        theirs, their_harmless = at[best]
        known = set(ENTITIES.values())
    except ImportError as missing:
        print(f"Presidio is not there ({missing}): ours alone", file=sys.stderr)

    empty = [0, 0, 0]
    print(f"\n{'':12} {'Sluice':>24}   {'Presidio':>24}")
    print(f"{'type':12} {'precision':>9} {'recall':>7} {'F1':>6}   {'precision':>9} {'recall':>7} {'F1':>6}")
    for kind in sorted(set(ours) | set(theirs or ())):
        line = "{:9.3f} {:7.3f} {:6.3f}".format(*f1(*ours.get(kind, empty)))
        other = "{:9.3f} {:7.3f} {:6.3f}".format(*f1(*theirs.get(kind, empty))) if theirs else ""
        print(f"{kind:12} {line}   {other}")
    rows = []

    def total(name, a, b, goal):
        print(f"{name:40} F1 {a:.3f}" + (f"  Presidio {b:.3f}" if b is not None else ""))
        if b:
            rows.append({"name": name, "ratio": round(a / b, 3), "goal": goal, "sluice": a, "presidio": b})

    print()
    print("all types, ours: precision {:.4f} recall {:.4f} F1 {:.4f}".format(*overall(ours)))
    print("all types, ours without the column's name: F1 {:.4f}".format(overall(blind)[2]))
    if theirs:
        print("all types, Presidio at its best threshold {}: precision {:.4f} recall {:.4f} F1 {:.4f}".format(best, *overall(theirs)))
    total("detect F1, all types", overall(ours)[2], overall(theirs)[2] if theirs else None, 1.0)
    if theirs:
        total("detect F1, types that Presidio knows", overall(ours, known)[2], overall(theirs, known)[2], 1.0)
    print("\nfalse positives in columns that are harmless")
    for name, (false, of) in our_harmless.items():
        other = "{:6}".format(their_harmless[name][0]) if theirs else ""
        print(f"  {name:14} {false:6} {other} of {of}")
    speed = count / report["seconds"]
    print(f"\nSluice:   {speed:14,.0f} values/s {size / report['seconds'] / 1e6:10.2f} MB/s")
    if theirs:
        print(f"Presidio: {count / seconds:14,.0f} values/s {size / seconds / 1e6:10.2f} MB/s")
        ratio = speed / (count / seconds)
        rows.append({"name": "detect values/s", "ratio": round(ratio, 1), "goal": 50.0, "sluice": speed, "presidio": count / seconds})
    for row in rows:
        mark = "" if row["ratio"] >= row["goal"] else "  below the goal"
        print(f"{row['name']:40} ratio {row['ratio']:10.2f}  goal {row['goal']:6.2f}{mark}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"rows": rows}, file, indent=2)
    return 0 if theirs else 3


if __name__ == "__main__":
    sys.exit(main())
