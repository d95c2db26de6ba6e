using System.Net;
using System.Threading.Tasks.Sources;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>What a message costs in memory: nothing, once everything is warm.</summary>
public sealed class TransportCostTests
{
    [Fact]
    public async Task NothingIsAllocatedPerMessageSentOrReceived()
    {
        const int count = 20_000;
        var options = new TransportOptions { Identity = new PeerIdentity(7, 1, 1, "a:1") };
        var peer = new PeerIdentity(7, 2, 1, "b:1");
        var channel = new LoopChannel();
        var connection = new PeerConnection(channel, peer, isAccepted: false, options);
        var sink = new ReleasingSink();
        var append = PeerTransportTests.Append(1, 2, 1, new byte[200]);
        var heartbeat = new Message { Type = MessageType.Heartbeat, Term = 1 };

        // All on this thread: each flush puts a frame into the loop, and the reader takes it out before the next.
        var delivering = connection.DeliverAllAsync(sink);
        Assert.False(delivering.IsCompleted);
        Run(count);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Run(count);
        var bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(2 * 2 * count, sink.Messages);

        // A little for the pools to settle; one object for each message would be half a million.
        Assert.InRange(bytes, 0, count);
        connection.Close(reason: null);
        await delivering;

        void Run(int rounds)
        {
            for (var i = 0; i < rounds; i++)
            {
                _ = connection.Send(in append);
                connection.Flush();
                _ = connection.Send(in heartbeat);
                connection.Flush();
            }
        }
    }

    private sealed class ReleasingSink : IPeerSink
    {
        public int Messages { get; private set; }

        public void OnMessage(in Message message, FrameBuffer? buffer)
        {
            Messages++;
            buffer?.Release();
        }

        public void OnForward(
            ulong from, ulong term, ulong incarnation, ulong sequence, ReadOnlyMemory<byte> payload, FrameBuffer? buffer) =>
            throw new InvalidOperationException();

        public void OnForwardRefused(ulong from, ulong incarnation, ulong sequence, byte reason, string text) =>
            throw new InvalidOperationException();

        public void OnDelivered()
        {
        }

        public void OnUnreachable(ulong peer) => throw new InvalidOperationException();

        public void OnConnected(ulong peer, string address) => throw new InvalidOperationException();

        public ValueTask<ControlReply> OnControlAsync(ControlRequest request, CancellationToken cancellation) =>
            throw new InvalidOperationException();

        public ISnapshotReceiver? OnSnapshotOffer(ulong from, SnapshotOffer offer) => throw new InvalidOperationException();
    }

    /// <summary>What is sent is received, on the sender's thread.</summary>
    private sealed class LoopChannel : PeerChannel, IValueTaskSource<int>
    {
        private ManualResetValueTaskSourceCore<int> _source;
        private Memory<byte> _room;

        public override EndPoint? Remote => null;

        public override bool IsCertified => false;

        public override int TrySend(ReadOnlySpan<byte> bytes)
        {
            bytes.CopyTo(_room.Span);
            _source.SetResult(bytes.Length);
            return bytes.Length;
        }

        public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
            throw new InvalidOperationException();

        public override ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
        {
            _room = buffer;
            _source.Reset();
            return new ValueTask<int>(this, _source.Version);
        }

        public override void Close() => _source.SetResult(0);

        public int GetResult(short token) => _source.GetResult(token);

        public ValueTaskSourceStatus GetStatus(short token) => _source.GetStatus(token);

        public void OnCompleted(
            Action<object?> continuation,
            object? state,
            short token,
            ValueTaskSourceOnCompletedFlags flags) =>
            _source.OnCompleted(continuation, state, token, flags & ~ValueTaskSourceOnCompletedFlags.UseSchedulingContext);
    }
}
