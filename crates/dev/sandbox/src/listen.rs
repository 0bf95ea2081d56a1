//! The well-known ports, which are checked before anything is started. If the user has not chosen a port and the usual
//! one is in use, a free port is used instead.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, bail};
use holdfast_sandbox::Port;

/// A process that was just killed may still hold its port.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// A port that another program may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The port that the user has chosen.
    pub(crate) chosen: Option<u16>,
    /// The usual port, if the user has not chosen one.
    pub(crate) usual: u16,
    pub(crate) purpose: &'static str,
    /// The variable with which the user chooses the port.
    pub(crate) variable: &'static str,
}

/// One port for each purpose, reserved until dropped.
#[derive(Debug)]
pub(crate) struct ListeningPort {
    pub(crate) number: u16,
    /// Held only for the reservation. `None` for a port that the user has chosen, because the user may have reserved
    /// it.
    _lease: Option<Port>,
}

/// One port for each entry of `wanted`, in the same order, and a sentence about ports that are not the usual ones.
///
/// # Errors
/// A chosen port is in use or chosen twice. The error names the first one.
pub(crate) async fn take(
    host: IpAddr,
    wanted: &[Wanted],
) -> anyhow::Result<(Vec<ListeningPort>, Option<String>)> {
    let chosen: Vec<u16> = wanted.iter().filter_map(|wanted| wanted.chosen).collect();
    for (index, this) in wanted.iter().enumerate() {
        let Some(port) = this.chosen else { continue };
        if let Some(other) = wanted[..index].iter().find(|other| other.chosen == this.chosen) {
            bail!(
                "Port {port} is wanted for the {} and for the {}.{}",
                other.purpose,
                this.purpose,
                suggestion(host, this, port, &chosen),
            );
        }
        if !becomes_free(host, port).await? {
            bail!(
                "Port {port} for the {} is in use by another program.{}",
                this.purpose,
                suggestion(host, this, port, &chosen),
            );
        }
    }
    let mut taken: Vec<ListeningPort> = Vec::new();
    let mut moved = Vec::new();
    for this in wanted {
        let next = if let Some(number) = this.chosen {
            ListeningPort { number, _lease: None }
        } else {
            let others = taken.iter().map(|taken| taken.number);
            let others: Vec<u16> = chosen.iter().copied().chain(others).collect();
            next_free(host, this, &others).await?
        };
        if this.chosen.is_none() && next.number != this.usual {
            moved.push(format!("{} for the {}", next.number, this.purpose));
        }
        taken.push(next);
    }
    let sentence = (!moved.is_empty()).then(|| {
        format!("Some of the usual ports are in use. This run takes {}.", moved.join(", "))
    });
    Ok((taken, sentence))
}

/// The usual port, or the next one that is free.
async fn next_free(host: IpAddr, this: &Wanted, others: &[u16]) -> anyhow::Result<ListeningPort> {
    if !others.contains(&this.usual) {
        // Another sandbox has locked the port, so waiting does not help.
        let mut lease = Port::take(host, this.usual)?;
        if lease.is_none()
            && !is_answered(host, this.usual)
            && becomes_free(host, this.usual).await?
        {
            lease = Port::take(host, this.usual)?;
        }
        if lease.is_some() {
            return Ok(ListeningPort { number: this.usual, _lease: lease });
        }
    }
    for number in this.usual.saturating_add(1)..=u16::MAX {
        if !others.contains(&number)
            && let Some(lease) = Port::take(host, number)?
        {
            return Ok(ListeningPort { number, _lease: Some(lease) });
        }
    }
    bail!("no port above {} is free for the {}", this.usual, this.purpose)
}

/// Whether a program accepts connections there.
fn is_answered(host: IpAddr, port: u16) -> bool {
    let address = SocketAddr::from((crate::stack::local(host), port));
    std::net::TcpStream::connect_timeout(&address, BETWEEN_TRIES).is_ok()
}

async fn becomes_free(host: IpAddr, port: u16) -> anyhow::Result<bool> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        let address = SocketAddr::from((host, port));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address}")),
        }
    }
    Ok(false)
}

/// What to type instead: no variable, or a port that is free now.
fn suggestion(host: IpAddr, this: &Wanted, port: u16, chosen: &[u16]) -> String {
    let free = (port.saturating_add(1)..=u16::MAX)
        .filter(|candidate| !chosen.contains(candidate))
        .find(|candidate| TcpListener::bind((host, *candidate)).is_ok());
    let variable = this.variable;
    match free {
        Some(free) => {
            format!(" {variable}={free} is free; without {variable}, a free port is chosen.")
        }
        None => String::new(),
    }
}
