//! A worker of somebody else's: it knows a Redis URL and two stream names.

use ledger::TurnStatus;
use redis_protocol::resp2::types::BytesFrame;
use redis_protocol::resp3::types::BytesFrame as Frame3;
use serde_json::json;

use super::client::{error, text};
use crate::worker_port::testing::{World, uid};

fn ok() -> BytesFrame {
    BytesFrame::SimpleString("OK".into())
}

#[tokio::test]
async fn the_handshakes_of_common_clients_work() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let mut client = world.connect(start.generation).await;
    for words in [
        &["CLIENT", "SETINFO", "LIB-NAME", "redis-py"][..],
        &["client", "setinfo", "lib-ver", "5.0"],
        &["CLIENT", "SETNAME", "me"],
        &["SELECT", "0"],
        &["SELECT", "15"],
        &["XGROUP", "CREATE", &uid("demo").in_stream(), "g", "$", "MKSTREAM"],
    ] {
        assert_eq!(client.call(words).await, ok(), "{words:?}");
    }
    assert_eq!(client.call(&["CLIENT", "GETNAME"]).await, BytesFrame::BulkString("me".into()));
    assert!(matches!(client.call(&["CLIENT", "ID"]).await, BytesFrame::Integer(1..)));
    assert_eq!(client.call(&["ping", "x"]).await, BytesFrame::BulkString("x".into()));
    let BytesFrame::Array(hello) = client.call(&["HELLO", "2", "SETNAME", "you"]).await else {
        panic!("no list");
    };
    assert_eq!(hello.len(), 14);
    for (words, why) in [
        (&["INFO"][..], "NOPERM this user has no permissions to run the 'info' command"),
        (&["COMMAND", "DOCS"], "NOPERM this user has no permissions to run the 'command' command"),
        (&["CLIENT", "KILL", "x"], "NOPERM this user has no permissions to run the 'client|kill' command"),
        (&["EVAL", "return 1", "0"], "NOPERM this user has no permissions to run the 'eval' command"),
        (&["F\r\nO\0O"], "NOPERM this user has no permissions to run the 'foo' command"),
        (&["SELECT", "16"], "ERR DB index is out of range"),
        (&["HELLO", "4"], "NOPROTO unsupported protocol version"),
        (&["AUTH", "x"], "WRONGPASS invalid username-password pair or user is disabled."),
    ] {
        assert_eq!(client.refused(words).await, why);
    }
    assert_eq!(client.call(&["QUIT"]).await, ok());
    assert!(client.ends().await);
}

#[tokio::test]
async fn forty_lines_of_script_take_a_turn_and_answer_it() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let inbox = uid("demo").in_stream();
    let out = uid("demo").out_stream();
    let mut client = world.connect(start.generation).await;
    client.send(&["XREAD", "COUNT", "10", "BLOCK", "1000", "STREAMS", &inbox, "0"]).await;
    let got = super::client::entry(client.answer().await.unwrap()).unwrap();
    assert_eq!(got["prompt"], "one");

    let delta = client.added(&json!({"type": "message-delta", "text": "hi"})).await;
    let end = client.added(&json!({"type": "done", "reply": "hi"})).await;
    assert_ne!(delta, end);
    assert_eq!(client.call(&["XACK", &inbox, "g", "1-0"]).await, BytesFrame::Integer(1));
    let record = world.ledger.turn(&turn).await.unwrap().unwrap();
    assert_eq!(record.status, TurnStatus::Completed);
    let result = record.result.unwrap();
    assert_eq!(result["turn_id"], turn.as_str());
    assert_eq!(result["ok"], true);
    assert_eq!(result["usage"]["input_tokens"], 0);

    let too_late = client.add(&json!({"type": "done", "reply": "again"})).await;
    assert!(error(too_late).starts_with("STALE"));
    for (words, why) in [
        (&["XADD", &out, "*", "data", "{}"][..], "ERR only"),
        (&["XADD", &out, "1-1", "event", "{}"], "ERR only"),
        (&["XADD", &out, "MAXLEN", "~", "10", "*", "event", "{}"], "ERR only"),
        (&["XADD", &inbox, "*", "turn", "{}"], "NOPERM"),
        (&["XADD", "unit:x:out", "*", "event", "{}"], "NOPERM"),
        (&["XADD", &out, "*", "event", "{}"], "ERR the event is not"),
        (&["XADD", &out, "*", "event", r#"{"type":"dance"}"#], "ERR unknown event type"),
        (&["XREAD", "STREAMS", &out, "0"], "NOPERM"),
        (&["XACK", &out, "g", "1-0"], "NOPERM"),
        (&["XGROUP", "DESTROY", &inbox, "g"], "NOPERM"),
    ] {
        let told = client.refused(words).await;
        assert!(told.starts_with(why), "{words:?}: {told}");
    }
}

#[tokio::test]
async fn resp3_reads_are_maps_and_nothing_is_null() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let inbox = uid("demo").in_stream();
    let mut client = world.connect(start.generation).await;
    client.send(&["HELLO", "3"]).await;
    let Frame3::Map { data, .. } = client.answer3().await else {
        panic!("no map");
    };
    let proto = Frame3::BlobString { data: "proto".into(), attributes: None };
    assert_eq!(data[&proto], Frame3::Number { data: 3, attributes: None });
    let read = ["XREADGROUP", "GROUP", "g", "c", "BLOCK", "20", "STREAMS", &inbox, ">"];
    client.send(&read).await;
    let Frame3::Map { data, .. } = client.answer3().await else {
        panic!("no map");
    };
    let (stream, entries) = data.iter().next().unwrap();
    assert_eq!(*stream, Frame3::BlobString { data: inbox.clone().into(), attributes: None });
    let Frame3::Array { data: entries, .. } = entries else {
        panic!("no entries");
    };
    let Frame3::Array { data: entry, .. } = &entries[0] else {
        panic!("no entry");
    };
    let Frame3::Array { data: fields, .. } = &entry[1] else {
        panic!("no fields");
    };
    let Frame3::BlobString { data: json, .. } = &fields[1] else {
        panic!("no turn");
    };
    assert!(text(json).contains(turn.as_str()));
    client.send(&read).await;
    assert_eq!(client.answer3().await, Frame3::Null);
    client.send(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", &inbox, "0"]).await;
    let Frame3::Map { data, .. } = client.answer3().await else {
        panic!("no map");
    };
    let pending = data.values().next().unwrap();
    assert!(matches!(pending, Frame3::Array { data, .. } if data.is_empty()));
}
