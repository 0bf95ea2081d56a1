use std::time::Duration;

use holdfast_sandbox::{Redis, RedisOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends one command, and reads the answer.
async fn ask(redis: &Redis, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).await?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[tokio::test]
async fn a_new_server_is_empty_and_a_flush_empties_it() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    ask(&redis, "SET a 1").await.unwrap();
    assert_eq!(ask(&redis, "GET a").await.unwrap(), "$1\r\n1\r\n");
    redis.flush().await.unwrap();
    assert_eq!(ask(&redis, "GET a").await.unwrap(), "$-1\r\n");
}

#[tokio::test]
async fn a_paused_server_hangs_and_continues() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    redis.pause().unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(200), ask(&redis, "PING")).await;
    assert!(answer.is_err(), "it must hang, and said {answer:?}");
    redis.resume().unwrap();
    assert_eq!(ask(&redis, "PING").await.unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_killed_server_refuses_and_comes_back_empty_on_its_port() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let port = redis.port();
    ask(&redis, "SET a 1").await.unwrap();
    redis.kill9().await.unwrap();
    assert!(ask(&redis, "PING").await.is_err());
    redis.restart().await.unwrap();
    assert_eq!(redis.port(), port);
    assert_eq!(ask(&redis, "GET a").await.unwrap(), "$-1\r\n");
}

#[tokio::test]
async fn arguments_of_the_caller_take_precedence() {
    let args = ["--maxmemory", "12mb"].map(str::to_owned).to_vec();
    let redis = Redis::start(RedisOptions { args, ..RedisOptions::default() }).await.unwrap();
    let answer = ask(&redis, "CONFIG GET maxmemory").await.unwrap();
    assert!(answer.contains("12582912"), "{answer}");
}
