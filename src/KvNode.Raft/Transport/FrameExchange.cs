using System.Buffers;

namespace KvNode.Raft.Transport;

/// <summary>Frames one after the other on a connection that carries no messages: requests and snapshots.</summary>
/// <param name="watch">Ends each wait that lasts too long; then its token is to be given to every call here.</param>
internal sealed class FrameExchange(
    PeerChannel channel, IFrameMemory memory, int payloadBytesMax, SilenceWatch? watch = null) : IDisposable
{
    private readonly FrameReader _reader = new(memory, payloadBytesMax);

    /// <returns>The next frame; its payload, when it has one, is the caller's to release.</returns>
    /// <exception cref="PeerProtocolException">The connection ended, or it is not one of these.</exception>
    public async ValueTask<(PeerFrameHeader Header, FrameBuffer? Payload)> ReceiveAsync(
        FrameType one, FrameType other, CancellationToken cancellation)
    {
        PeerFrameHeader header;
        FrameBuffer? payload;
        while (!_reader.TryTake(out header, out payload))
        {
            var received = await ReceiveAsync(_reader.Room, cancellation);
            _reader.Received(received > 0 ? received : throw new IOException("the other end ended the connection"));
        }

        if (header.Type != one && header.Type != other)
        {
            payload?.Release();
            throw new PeerProtocolException($"a frame of type {(byte)header.Type} where none belongs");
        }

        return (header, payload);
    }

    public async ValueTask SendAsync(
        FrameType type, byte flags, FrameSlots slots, ReadOnlyMemory<byte> payload, CancellationToken cancellation)
    {
        var bytes = PeerFrameHeader.Bytes + payload.Length;
        var frame = ArrayPool<byte>.Shared.Rent(bytes);
        watch?.Begin();
        try
        {
            payload.Span.CopyTo(frame.AsSpan(PeerFrameHeader.Bytes));
            PeerFrameHeader.Seal(frame.AsSpan(0, bytes), type, flags, in slots);
            await channel.SendAsync(frame.AsMemory(0, bytes), cancellation);
        }
        catch (OperationCanceledException) when (watch is { IsOver: true })
        {
            throw watch.Failure;
        }
        finally
        {
            watch?.End();
            ArrayPool<byte>.Shared.Return(frame);
        }
    }

    public void Dispose() => _reader.Dispose();

    private async ValueTask<int> ReceiveAsync(Memory<byte> room, CancellationToken cancellation)
    {
        watch?.Begin();
        try
        {
            return await channel.ReceiveAsync(room, cancellation);
        }
        catch (OperationCanceledException) when (watch is { IsOver: true })
        {
            throw watch.Failure;
        }
        finally
        {
            watch?.End();
        }
    }
}
