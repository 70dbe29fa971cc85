//! soon
pub(super) fn run(_tour: &mut super::Tour) -> crate::Result<()> {
    Ok(())
}
