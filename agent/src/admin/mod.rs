//! admin

/// placeholder
pub async fn serve(_l: tokio::net::UnixListener, _h: std::sync::Arc<crate::app::House>) {}
