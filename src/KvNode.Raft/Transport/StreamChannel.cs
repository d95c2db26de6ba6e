using System.Net;

namespace KvNode.Raft.Transport;

/// <summary>A connection through a stream: TLS.</summary>
internal sealed class StreamChannel(Stream stream, EndPoint? remote, bool isCertified) : PeerChannel
{
    public override EndPoint? Remote => remote;

    public override bool IsCertified => isCertified;

    public override int TrySend(ReadOnlySpan<byte> bytes) => 0;

    public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        try
        {
            await stream.WriteAsync(bytes, cancellation);
        }
        catch (Exception e) when (e is ObjectDisposedException or InvalidOperationException)
        {
            throw new IOException("the connection was closed", e);
        }
    }

    public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
    {
        try
        {
            return await stream.ReadAsync(buffer, cancellation);
        }
        catch (Exception e) when (e is ObjectDisposedException or InvalidOperationException)
        {
            throw new IOException("the connection was closed", e);
        }
    }

    public override void Close() => stream.Dispose();
}
