using System.Net;
using System.Net.Sockets;

namespace KvNode.Raft.Transport;

/// <summary>
/// One connection's bytes in both directions, whatever it is made of. One thread at a time receives, one at a time sends;
/// the two do not wait for each other.
/// </summary>
public abstract class PeerChannel
{
    /// <summary>The other end, for messages and for the question whether it is this machine.</summary>
    public abstract EndPoint? Remote { get; }

    /// <summary>TLS, and the other end has shown a certificate signed by the cluster's authority.</summary>
    public abstract bool IsCertified { get; }

    /// <summary>Sends what the socket takes at once, without waiting.</summary>
    /// <returns>Bytes taken; 0 when it would have to wait, or cannot be done without <see cref="SendAsync"/>.</returns>
    /// <exception cref="IOException">The connection is broken.</exception>
    public abstract int TrySend(ReadOnlySpan<byte> bytes);

    /// <summary><see cref="TrySend(ReadOnlySpan{byte})"/> of a socket that does not block.</summary>
    protected static int TrySend(Socket socket, ReadOnlySpan<byte> bytes)
    {
        var sent = socket.Send(bytes, SocketFlags.None, out var error);
        return error switch
        {
            SocketError.Success => sent,
            SocketError.WouldBlock or SocketError.IOPending => 0,
            _ => throw new IOException(new SocketException((int)error).Message),
        };
    }

    /// <summary>Sends all of it.</summary>
    /// <exception cref="IOException">The connection is broken.</exception>
    public abstract ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation);

    /// <returns>Bytes received; 0 when the other end has finished.</returns>
    /// <exception cref="IOException">The connection is broken.</exception>
    public abstract ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation);

    /// <summary>Ends the connection at once; sends and receives under way fail. Any thread, any number of times.</summary>
    public abstract void Close();
}

/// <summary>Takes over accepted connections whose first bytes are <see cref="PeerMagic"/>.</summary>
public interface IPeerAcceptor
{
    /// <summary>Serves a connection from its first byte, the magic included, to its end.</summary>
    Task ServeAsync(PeerChannel channel);

    /// <summary>A connection was refused before its first byte came here (by TLS). Said as the acceptor's own refusals are.</summary>
    void NoteRefused(EndPoint? remote, string reason);
}

/// <summary>
/// The first bytes of a peer's connection. They tell it from a client's on the same port: no RESP command begins so, the first
/// byte is not one of UTF-8, and there is no line end in them, so that a RESP reader could not have acted on a part of them.
/// </summary>
public static class PeerMagic
{
    public const int Bytes = 8;

    public static ReadOnlySpan<byte> Value => [0xAB, (byte)'K', (byte)'V', (byte)'P', (byte)'E', (byte)'E', (byte)'R', 0xBB];
}
