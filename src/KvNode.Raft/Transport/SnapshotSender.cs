using System.Buffers;

namespace KvNode.Raft.Transport;

/// <summary>
/// Brings one snapshot to one peer, over as many connections as it takes; on each:
/// <code>
/// sender:    Offer                    Chunk Chunk ... Done
/// receiver:          Resume | Verdict                      Verdict
/// </code>
/// </summary>
/// <param name="livesElsewhere">Whether the peer's other connections show that it lives. Then it may take its time: it installs what
/// it has, or another transfer comes first. If not, silence ends the connection.</param>
internal sealed class SnapshotSender(
    TransportOptions options, SnapshotOffer offer, ISnapshotSource source, Func<bool> livesElsewhere)
{
    private static readonly PooledFrameMemory Memory = new();

    /// <summary>What the receiver was last heard to have.</summary>
    public long ReceivedBytes { get; private set; } = -1;

    /// <summary>One connection's worth of it.</summary>
    /// <exception cref="IOException">The connection broke, or the source cannot be read.</exception>
    public async Task<SnapshotVerdict> SendAsync(PeerChannel channel, CancellationToken cancellation)
    {
        Invariant.Check(offer.Meta.Length <= TransportLimits.ControlBytesMax);
        using var watch = new SilenceWatch(options, cancellation, livesElsewhere);
        using var exchange = new FrameExchange(channel, Memory, TransportLimits.ControlBytesMax, watch);
        return await SendAsync(exchange, watch.Token);
    }

    private async Task<SnapshotVerdict> SendAsync(FrameExchange exchange, CancellationToken cancellation)
    {
        await exchange.SendAsync(FrameType.Offer, flags: 0, SnapshotTransfer.Slots(offer), offer.Meta, cancellation);
        var (resume, nothing) = await exchange.ReceiveAsync(FrameType.Resume, FrameType.Verdict, cancellation);
        nothing?.Release();
        if (resume.Type == FrameType.Verdict)
        {
            return Verdict(resume);
        }

        var offset = (long)resume.Slots[0];
        if (offset < 0 || offset > offer.SizeBytes)
        {
            throw new PeerProtocolException("it has more of the snapshot than there is");
        }

        ReceivedBytes = offset;
        await SendContentAsync(exchange, offset, cancellation);
        await exchange.SendAsync(FrameType.Done, flags: 0, default, default, cancellation);
        var (verdict, none) = await exchange.ReceiveAsync(FrameType.Verdict, FrameType.Verdict, cancellation);
        none?.Release();
        return Verdict(verdict);
    }

    private static SnapshotVerdict Verdict(in PeerFrameHeader header) =>
        (SnapshotVerdict)header.Flags is var verdict and >= SnapshotVerdict.Installed and <= SnapshotVerdict.Damaged
            ? verdict
            : throw new PeerProtocolException("an unknown verdict");

    private async Task SendContentAsync(FrameExchange exchange, long offset, CancellationToken cancellation)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(TransportLimits.ChunkBytes);
        try
        {
            var first = offset;
            var began = options.Time.GetTimestamp();
            while (offset < offer.SizeBytes)
            {
                var wanted = (int)Math.Min(TransportLimits.ChunkBytes, offer.SizeBytes - offset);
                var read = await source.ReadAsync(offset, buffer.AsMemory(0, wanted), cancellation);
                if (read <= 0)
                {
                    throw new IOException("the snapshot's file is shorter than it was");
                }

                var slots = new FrameSlots();
                slots[0] = (ulong)offset;
                await exchange.SendAsync(FrameType.Chunk, flags: 0, slots, buffer.AsMemory(0, read), cancellation);
                offset += read;
                await HoldBackAsync(offset - first, began, cancellation);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private async ValueTask HoldBackAsync(long sent, long began, CancellationToken cancellation)
    {
        if (options.SnapshotBytesPerSecond > 0)
        {
            var due = TimeSpan.FromSeconds((double)sent / options.SnapshotBytesPerSecond);
            var ahead = due - options.Time.GetElapsedTime(began);
            if (ahead > TimeSpan.Zero)
            {
                await Task.Delay(ahead, options.Time, cancellation);
            }
        }
    }
}
