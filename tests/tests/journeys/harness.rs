//! The harness itself: its Redis keeps what it acknowledged, its keys sign.

use std::time::Duration;

use tests::redis::Redis;

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path()).await;
    assert_eq!(redis.command(&["SET", "k", "kept"]).await.unwrap(), "+OK\r\n");
    redis.kill();
    assert!(redis.command(&["GET", "k"]).await.is_err());
    redis.restart().await;
    assert_eq!(redis.command(&["GET", "k"]).await.unwrap(), "$4\r\nkept\r\n");
}

#[tokio::test]
async fn a_paused_one_hangs_until_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path()).await;
    redis.pause();
    let hung = tokio::time::timeout(Duration::from_millis(200), redis.command(&["PING"])).await;
    assert!(hung.is_err(), "{hung:?}");
    redis.resume();
    assert_eq!(redis.command(&["PING"]).await.unwrap(), "+PONG\r\n");
}

#[test]
fn the_dispatch_key_signs() {
    let key = jsonwebtoken::EncodingKey::from_ed_pem(tests::keys::ed25519_pem().as_bytes()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    let token = jsonwebtoken::encode(&header, &serde_json::json!({ "sub": "u" }), &key).unwrap();
    assert_eq!(token.split('.').count(), 3);
}
