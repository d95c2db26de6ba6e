using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;

namespace KvNode.Raft.Transport;

/// <summary>A plain TCP connection that this node has made.</summary>
internal sealed class SocketChannel : PeerChannel
{
    private readonly Socket _socket;

    public SocketChannel(Socket socket)
    {
        _socket = socket;
        Remote = socket.RemoteEndPoint;
        socket.Blocking = false;
    }

    public override EndPoint? Remote { get; }

    public override bool IsCertified => false;

    public override int TrySend(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return TrySend(_socket, bytes);
        }
        catch (ObjectDisposedException)
        {
            throw Closed();
        }
    }

    public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        try
        {
            while (!bytes.IsEmpty)
            {
                bytes = bytes[await _socket.SendAsync(bytes, SocketFlags.None, cancellation)..];
            }
        }
        catch (SocketException e)
        {
            throw new IOException(e.Message, e);
        }
        catch (ObjectDisposedException)
        {
            throw Closed();
        }
    }

    // Pooled: a plain async method would allocate for each receive that waits.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
    {
        try
        {
            return await _socket.ReceiveAsync(buffer, SocketFlags.None, cancellation);
        }
        catch (SocketException e)
        {
            throw new IOException(e.Message, e);
        }
        catch (ObjectDisposedException)
        {
            throw Closed();
        }
    }

    public override void Close() => _socket.Dispose();

    private static IOException Closed() => new("the connection was closed");
}
