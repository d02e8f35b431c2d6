//! The name server of a rehearsal.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use southbridge_kernel::net::{MemoryListener, MemoryNetwork, MemorySocket, MemoryStream};
use southbridge_testkit::dns::{DnsScript, Reply, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers at `address` what `script` says, over datagrams and streams, for as long as the rehearsal lasts.
pub(crate) fn serve(network: &MemoryNetwork, address: SocketAddr, script: &DnsScript) -> io::Result<()> {
    let socket = Rc::new(network.bind(address)?);
    let listener = network.listen(address)?;
    tokio::task::spawn_local(serve_datagrams(socket, script.clone()));
    tokio::task::spawn_local(serve_streams(listener, script.clone()));
    Ok(())
}

async fn serve_datagrams(socket: Rc<MemorySocket>, script: DnsScript) {
    loop {
        let Ok((query, from)) = socket.recv_from().await else { continue };
        let reply = script.reply(&query, Transport::Udp);
        if reply.after.is_zero() {
            send(&socket, &reply, from);
        } else {
            let socket = Rc::clone(&socket);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(reply.after).await;
                send(&socket, &reply, from);
            });
        }
    }
}

fn send(socket: &MemorySocket, reply: &Reply, to: SocketAddr) {
    reply.messages.iter().for_each(|message| socket.send_to(message, to));
}

async fn serve_streams(listener: MemoryListener, script: DnsScript) {
    loop {
        let (stream, script) = (listener.accept().await, script.clone());
        tokio::task::spawn_local(async move {
            // Whoever hangs up in the middle of a message gets no answer.
            let _ = serve_stream(stream, &script).await;
        });
    }
}

/// Each message has two bytes of length before it (RFC 1035 §4.2.2).
async fn serve_stream(mut stream: MemoryStream, script: &DnsScript) -> io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        let reply = script.reply(&query, Transport::Tcp);
        tokio::time::sleep(reply.after).await;
        for message in reply.messages {
            stream.write_u16(u16::try_from(message.len()).map_err(io::Error::other)?).await?;
            stream.write_all(&message).await?;
        }
    }
}
