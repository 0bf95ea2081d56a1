use super::*;

#[tokio::test]
async fn a_port_taken_in_the_meantime_is_distinguished_from_other_failures() {
    let postgres = Postgres::prepare(PostgresOptions::default()).await.unwrap();
    let taken = std::net::TcpListener::bind(postgres.port.address()).unwrap();
    assert!(matches!(postgres.launch().await, Err(LaunchError::AddressInUse)));
    drop(taken);
    assert!(postgres.launch().await.is_ok());
}
