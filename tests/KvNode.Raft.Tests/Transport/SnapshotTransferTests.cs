using KvNode.Raft.Transport;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>Snapshots between real nodes: whole, resumed, refused, slowly.</summary>
public sealed class SnapshotTransferTests
{
    private const int MiB = 1 << 20;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(MiB)]
    [InlineData((5 * MiB) + 17)]
    public async Task SnapshotOfAnySizeArrivesWhole(int bytes)
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        var content = Content(bytes);
        var store = new MemoryReceiver();
        SnapshotOffer? seen = null;
        two.Sink.Offer = (from, offer) =>
        {
            Assert.Equal(1ul, from);
            seen = offer;
            return store;
        };
        var offer = new SnapshotOffer(new EntryId(3, 99), 4, new UInt128(5, 6), bytes, "meta"u8.ToArray());
        Assert.Equal(SnapshotVerdict.Installed, await one.Transport.SendSnapshotAsync(2, offer, new MemorySource(content), default));
        Assert.True(content.AsSpan().SequenceEqual(store.Content));
        Assert.Equal(offer with { Meta = default }, seen!.Value with { Meta = default });
        Assert.Equal("meta"u8, seen.Value.Meta.Span);
        Assert.Equal(1, store.Disposals);
    }

    [Fact]
    public async Task BreakAtEveryChunkResumesWhereTheReceiverStands()
    {
        const int chunks = 6;
        using var one = new TestNode(1);

        // Each bulk connection ends by itself within the next chunk; what it had before is kept.
        using var two = new TestNode(2, wrap: static channel => new ShortLivedChannel(channel, MiB + (MiB / 2)));
        TestNode.Join(one, two);
        var content = Content(chunks * MiB);
        var store = new MemoryReceiver();
        two.Sink.Offer = (_, _) => store;
        var source = new MemorySource(content);
        var verdict = await one.Transport.SendSnapshotAsync(2, Offer(content.Length), source, default);
        Assert.Equal(SnapshotVerdict.Installed, verdict);
        Assert.True(content.AsSpan().SequenceEqual(store.Content));
        Assert.Equal(chunks, store.Disposals);

        // Whatever had arrived was not asked for again.
        Assert.Equal(Enumerable.Range(0, chunks).Select(static i => (long)i * MiB), store.Writes);
        Assert.True(store.MostAtOnce <= 1);
    }

    [Fact]
    public async Task TransferWithoutProgressIsGivenUp()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2, wrap: static channel => new ShortLivedChannel(channel, 1000));
        TestNode.Join(one, two);
        var store = new MemoryReceiver();
        two.Sink.Offer = (_, _) => store;
        _ = await Assert.ThrowsAsync<TransportException>(
            async () => await one.Transport.SendSnapshotAsync(2, Offer(MiB), new MemorySource(Content(MiB)), default));
        Assert.Empty(store.Writes);
        Assert.InRange(store.Disposals, TransportLimits.SnapshotAttemptsMax, TransportLimits.SnapshotAttemptsMax + 1);
    }

    [Fact]
    public async Task UnwantedSnapshotIsRefusedBeforeItIsSent()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        var source = new MemorySource(Content(MiB));
        Assert.Equal(SnapshotVerdict.Refused, await one.Transport.SendSnapshotAsync(2, Offer(MiB), source, default));
        Assert.Equal(0, source.ReadBytes);
    }

    [Fact]
    public async Task DamageThatTheReceiverFindsIsSaid()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        two.Sink.Offer = static (_, _) => new MemoryReceiver { Verdict = SnapshotVerdict.Damaged };
        Assert.Equal(
            SnapshotVerdict.Damaged,
            await one.Transport.SendSnapshotAsync(2, Offer(MiB), new MemorySource(Content(MiB)), default));
    }

    [Fact]
    public async Task SlowReceiverHoldsTheSenderBack()
    {
        const int bytes = 64 * MiB;
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        var source = new MemorySource(new byte[bytes]);
        var store = new MemoryReceiver { KeepsNothing = true, Gate = new SemaphoreSlim(0) };
        two.Sink.Offer = (_, _) => store;
        var transfer = one.Transport.SendSnapshotAsync(2, Offer(bytes), source, default).AsTask();

        // The receiver stands still in its first chunk. What two sockets hold goes out, and then nothing.
        long read;
        do
        {
            read = source.ReadBytes;
            await Task.Delay(200);
        }
        while (source.ReadBytes > read || read == 0);
        Assert.InRange(read, MiB, bytes / 2);
        Assert.False(transfer.IsCompleted);
        _ = store.Gate.Release(bytes / MiB);
        Assert.Equal(SnapshotVerdict.Installed, await transfer);
        Assert.Equal(1, store.MostAtOnce);
    }

    [Fact]
    public async Task RateLimitIsKept()
    {
        using var one = new TestNode(1, configure: static options => options with { SnapshotBytesPerSecond = 10 * MiB });
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        var store = new MemoryReceiver();
        two.Sink.Offer = (_, _) => store;
        var began = TimeProvider.System.GetTimestamp();
        _ = await one.Transport.SendSnapshotAsync(2, Offer(3 * MiB), new MemorySource(Content(3 * MiB)), default);
        Assert.True(TimeProvider.System.GetElapsedTime(began) >= TimeSpan.FromMilliseconds(290));
    }

    [Fact]
    public async Task CancelledTransferEndsAndTheReceiverIsLetGo()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        var store = new MemoryReceiver { Gate = new SemaphoreSlim(0) };
        var offered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        two.Sink.Offer = (_, _) =>
        {
            offered.SetResult();
            return store;
        };
        using var cancellation = new CancellationTokenSource();
        var transfer = one.Transport.SendSnapshotAsync(2, Offer(9 * MiB), new MemorySource(new byte[9 * MiB]), cancellation.Token).AsTask();
        await offered.Task.WaitAsync(TestNode.Patience);
        await cancellation.CancelAsync();
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => transfer);
        _ = store.Gate.Release(9);
        while (store.Disposals == 0)
        {
            await Task.Delay(2);
        }
    }

    [Fact]
    public async Task SenderThatFallsSilentIsNotWaitedForAndGoesOnWhereItWas()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2, configure: Quick);
        TestNode.Join(one, two);
        var content = Content(2 * MiB);
        var source = new MemorySource(content) { Gate = new SemaphoreSlim(1) };
        var store = new MemoryReceiver();
        two.Sink.Offer = (_, _) => store;
        var transfer = one.Transport.SendSnapshotAsync(2, Offer(content.Length), source, default).AsTask();

        // The source gives one piece and then nothing: as if the sender had been stopped there.
        while (store.Disposals == 0)
        {
            await Task.Delay(2);
        }

        Assert.Equal([0L], store.Writes);
        _ = source.Gate.Release(4);
        Assert.Equal(SnapshotVerdict.Installed, await transfer);
        Assert.True(content.AsSpan().SequenceEqual(store.Content));
        Assert.Equal([0L, MiB], store.Writes);
    }

    [Fact]
    public async Task ReceiverThatHangsIsGivenUp()
    {
        var hangs = false;
        using var one = new TestNode(1, configure: static options => Quick(options) with
        {
            ConnectTimeout = TimeSpan.FromMilliseconds(100),
            HandshakeTimeout = TimeSpan.FromMilliseconds(100),
        });
        using var two = new TestNode(2, wrap: channel => new MuteChannel(channel, () => Volatile.Read(ref hangs)));
        TestNode.Join(one, two);
        await two.WhenCalledByAsync(one);
        two.Sink.Offer = (_, _) =>
        {
            Volatile.Write(ref hangs, true);
            return new MemoryReceiver();
        };
        two.Transport.SetPeers(new Dictionary<ulong, string>());
        _ = await Assert.ThrowsAsync<TransportException>(
            async () => await one.Transport.SendSnapshotAsync(2, Offer(MiB), new MemorySource(Content(MiB)), default)
                .AsTask().WaitAsync(TestNode.Patience));
    }

    [Fact]
    public async Task ReceiverThatTakesItsTimeIsWaitedForWhileItLives()
    {
        using var one = new TestNode(1, configure: static options => Quick(options) with { SilentIntervalsMax = 25 });
        using var two = new TestNode(2, configure: static options => options with { PingInterval = TimeSpan.FromMilliseconds(20) });
        TestNode.Join(one, two);
        var store = new MemoryReceiver { Install = new SemaphoreSlim(0) };
        two.Sink.Offer = (_, _) => store;
        var transfer = one.Transport.SendSnapshotAsync(2, Offer(MiB), new MemorySource(Content(MiB)), default).AsTask();
        await Task.WhenAny(transfer, Task.Delay(TimeSpan.FromSeconds(1.5)));
        Assert.Equal(0, store.Disposals);
        _ = store.Install.Release();
        Assert.Equal(SnapshotVerdict.Installed, await transfer);
    }

    [Fact]
    public async Task DisplacedTransferEndsWithItsConnection()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        using var displaced = new CancellationTokenSource();
        var store = new MemoryReceiver { Displaced = displaced.Token };
        var offers = 0;
        two.Sink.Offer = (_, _) => ++offers == 1 ? store : null;
        var source = new MemorySource(Content(MiB)) { Gate = new SemaphoreSlim(0) };
        var transfer = one.Transport.SendSnapshotAsync(2, Offer(MiB), source, default).AsTask();
        while (Volatile.Read(ref offers) == 0)
        {
            await Task.Delay(2);
        }

        await displaced.CancelAsync();
        while (store.Disposals == 0)
        {
            await Task.Delay(2);
        }

        _ = source.Gate.Release(4);
        Assert.Equal(SnapshotVerdict.Refused, await transfer);
    }

    private static TransportOptions Quick(TransportOptions options) =>
        options with { PingInterval = TimeSpan.FromMilliseconds(20), SilentIntervalsMax = 10 };

    private static SnapshotOffer Offer(long bytes) => new(new EntryId(1, 1), 1, 1, bytes, default);

    private static byte[] Content(int bytes)
    {
        var content = new byte[bytes];
        new Random(bytes).NextBytes(content);
        return content;
    }

    private sealed class MemorySource(byte[] content) : ISnapshotSource
    {
        private long _readBytes;

        public long ReadBytes => Volatile.Read(ref _readBytes);

        public SemaphoreSlim? Gate { get; init; }

        public async ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellation)
        {
            if (Gate is not null)
            {
                await Gate.WaitAsync(cancellation);
            }

            var bytes = Math.Min(buffer.Length, content.Length - (int)offset);
            content.AsMemory((int)offset, bytes).CopyTo(buffer);
            _ = Interlocked.Add(ref _readBytes, bytes);
            return bytes;
        }
    }

    /// <summary>Keeps what came when its connection breaks, as a file would.</summary>
    private sealed class MemoryReceiver : ISnapshotReceiver
    {
        private readonly List<byte> _content = [];
        private int _inside;
        private int _disposals;

        public SnapshotVerdict Verdict { get; init; } = SnapshotVerdict.Installed;

        public bool KeepsNothing { get; init; }

        public SemaphoreSlim? Gate { get; init; }

        public SemaphoreSlim? Install { get; init; }

        public List<long> Writes { get; } = [];

        public int MostAtOnce { get; private set; }

        public int Disposals => Volatile.Read(ref _disposals);

        public byte[] Content => [.. _content];

        public long HaveBytes => _content.Count;

        public CancellationToken Displaced { get; init; }

        public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> chunk, CancellationToken cancellation)
        {
            MostAtOnce = Math.Max(MostAtOnce, Interlocked.Increment(ref _inside));
            if (Gate is not null)
            {
                await Gate.WaitAsync(cancellation);
            }

            Writes.Add(offset);
            if (!KeepsNothing)
            {
                Assert.Equal(_content.Count, offset);
                _content.AddRange(chunk.Span);
            }

            _ = Interlocked.Decrement(ref _inside);
        }

        public async ValueTask<SnapshotVerdict> CompleteAsync(CancellationToken cancellation)
        {
            if (Install is not null)
            {
                await Install.WaitAsync(cancellation);
            }

            return Verdict;
        }

        public ValueTask DisposeAsync()
        {
            _ = Interlocked.Increment(ref _disposals);
            return ValueTask.CompletedTask;
        }
    }

    /// <summary>Takes what is to be sent and sends nothing of it while it hangs.</summary>
    private sealed class MuteChannel(PeerChannel inner, Func<bool> hangs) : WrappedChannel(inner)
    {
        public override int TrySend(ReadOnlySpan<byte> bytes) => hangs() ? bytes.Length : base.TrySend(bytes);

        public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
            hangs() ? ValueTask.CompletedTask : base.SendAsync(bytes, cancellation);
    }

    private sealed class ShortLivedChannel(PeerChannel inner, int bytesMax) : WrappedChannel(inner)
    {
        private int _left = bytesMax;

        public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
        {
            if (_left == 0)
            {
                throw new IOException("cut by the test");
            }

            var received = await base.ReceiveAsync(buffer[..Math.Min(buffer.Length, _left)], cancellation);
            _left -= received;
            return received;
        }
    }
}
