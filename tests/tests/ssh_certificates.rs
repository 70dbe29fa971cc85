//! OpenID tokens in SSH certificates, as opkssh makes them, by the real ssh: who holds the key of one is its person.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_tests::Result;
use sluice_tests::command::sh;
use sluice_tests::enclosure::in_room;
use sluice_tests::gate::both;
use sluice_tests::road::{Outcome, Road};
use sluice_tests::scene::Scene;
use sluice_tests::stage::Stage;
use sluice_tests::world::people::Person;
use sluice_tests::world::{HOME, World, own};

/// A key, and a certificate around it with a token of whatever kind.
fn certificate(world: &World, of: &Person, holder: &Person, kind: &str) -> Result<PathBuf> {
    let key = Path::new(HOME).join(format!("keys-{kind}"));
    fs::create_dir_all(&key)?;
    let (own_key, ca) = (key.join("key"), key.join("ca"));
    for file in [&own_key, &ca] {
        sh(
            "ssh-keygen",
            ["-q", "-t", "ecdsa", "-b", "256", "-m", "PEM", "-N", "", "-f", &file.to_string_lossy()],
        )?;
    }
    let token = world.provider.pk_token(of, &own_key, kind)?;
    signed(&ca, &own_key, &token)?;
    fs::write(key.join("token"), token)?;
    own(&key, &format!("{0}:{0}", holder.uid))?;
    Ok(own_key)
}

/// A CA of nobody's: what it signs proves nothing but its form.
fn signed(ca: &Path, key: &Path, token: &str) -> Result<()> {
    let extension = format!("extension:openpubkey-pkt={token}");
    let public = format!("{}.pub", key.display());
    let ca = ca.to_string_lossy();
    sh("ssh-keygen", ["-q", "-s", &*ca, "-I", "somebody", "-n", "deploy", "-O", &extension, &public])
        .map(drop)
}

const CERTIFIED: &str = "-o StrictHostKeyChecking=no -o IdentitiesOnly=yes \
                         -o PreferredAuthentications=publickey,keyboard-interactive";

fn walk(road: &mut Road, stage: &Stage, key: &Path, certificate: &Path, command: &str) -> Result<Outcome> {
    let script = format!(
        "timeout 4 ssh {CERTIFIED} -i {} -o CertificateFile={}-cert.pub $HOST '{command}'",
        key.display(),
        certificate.display()
    );
    road.walk(stage, &script, Duration::from_secs(20))
}

/// Bob is known by his certificate alone; each thing that is wrong with one is a refusal.
#[test]
fn c10_p5_a_token_in_a_certificate_is_its_key_holders_and_nobody_elses() {
    in_room("c10_p5_a_token_in_a_certificate_is_its_key_holders_and_nobody_elses", |room| {
        let scene = Scene::open(room)?;
        let (world, stage) = (&scene.world, &scene.stage);
        let carol = world.people.carol.clone();
        let mut road = Road::stranger(world, &carol)?;
        let good = certificate(world, &world.people.bob, &carol, "good")?;
        let said = walk(&mut road, stage, &good, &good, "id -un; echo $LANG")?;
        assert!(said.status == 0 && said.text().starts_with("deploy\n"), "{}", said.shown());
        assert!(scene.event("login", world.people.bob.subject)?, "known as bob, in whose terminal nobody is");

        for kind in ["expired", "audience", "nonce", "gq"] {
            let bad = certificate(world, &world.people.bob, &carol, kind)?;
            let said = walk(&mut road, stage, &bad, &bad, "id -un")?;
            assert!(said.status != 0 && !said.text().contains("deploy"), "{kind}: {}", said.shown());
            assert!(both(&said).contains("token"), "{kind} is told: {}", said.shown());
            if kind == "gq" {
                assert!(both(&said).contains("GQ-signed"), "{}", said.shown());
            }
        }

        // Stolen: bob's certificate, and no key of his.
        let thief = certificate(world, &carol, &carol, "early")?;
        let said = walk(&mut road, stage, &thief, &good, "id -un")?;
        assert!(said.status != 0 && !said.text().contains("deploy"), "{}", said.shown());
        // Stolen, and put into a certificate around the thief's own key.
        let token = fs::read_to_string(Path::new(HOME).join("keys-good/token"))?;
        let around = Path::new(HOME).join("keys-early");
        signed(&around.join("ca"), &around.join("key"), &token)?;
        own(&around, &format!("{0}:{0}", carol.uid))?;
        let said = walk(&mut road, stage, &thief, &thief, "id -un")?;
        assert!(said.status != 0 && both(&said).contains("another key"), "{}", said.shown());
        // A certificate says nothing by itself.
        let plain = format!("{}.pub", thief.display());
        let ca = around.join("ca");
        sh("ssh-keygen", ["-q", "-s", &*ca.to_string_lossy(), "-I", "bob", "-n", "deploy", &plain])?;
        own(&around, &format!("{0}:{0}", carol.uid))?;
        let said = walk(&mut road, stage, &thief, &thief, "id -un")?;
        assert!(said.status != 0 && !said.text().contains("deploy"), "{}", said.shown());
        Ok(())
    });
}
