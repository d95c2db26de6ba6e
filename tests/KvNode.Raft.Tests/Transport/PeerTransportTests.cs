using KvNode.Raft.Core;
using KvNode.Raft.Transport;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>Messages between real nodes on loopback.</summary>
public sealed class PeerTransportTests
{
    [Fact]
    public async Task MessagesGoBothWaysInOrderAndTellWhoSentThem()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        await one.WhenCalledByAsync(two);
        await two.WhenCalledByAsync(one);
        for (var i = 1ul; i <= 200; i++)
        {
            Heartbeat(one, two, i);
            Heartbeat(two, one, i);
        }

        foreach (var (node, peer) in new[] { (one, two), (two, one) })
        {
            _ = await node.Sink.WaitAsync<Told.Got>(static got => got.Message.Term == 200);
            var got = node.Sink.All.OfType<Told.Got>().Select(static told => told.Message).ToArray();
            Assert.Equal(Enumerable.Range(1, 200).Select(static i => (ulong)i), got.Select(static message => message.Term));
            Assert.All(got, message => Assert.Equal((peer.Id, node.Id), (message.From, message.To)));
        }
    }

    [Fact]
    public async Task APeerThatCannotBeCalledIsSaidToBeOutOfReachAtEachOfItsAddresses()
    {
        using var one = new TestNode(1, configure: static options => options with { UnreachableAfter = TimeSpan.FromMilliseconds(20) });
        string[] nobody = [$"127.0.0.1:{Ports.Free()}", $"127.0.0.1:{Ports.Free()}"];
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = nobody[0] });
        var said = await SaidAsync(count: 1);
        Assert.Equal((2ul, nobody[0]), (said[0].Peer, said[0].Address));
        Assert.Contains("refused", said[0].Detail, StringComparison.OrdinalIgnoreCase);

        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = nobody[1] });
        said = await SaidAsync(count: 2);
        Assert.Equal(nobody, said.Select(static notice => notice.Address));

        using var two = new TestNode(2);
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        _ = await one.Sink.WaitAsync<Told.Connected>();
        Assert.Equal(2, Unreachable().Length);

        PeerNotice[] Unreachable() => [.. one.Notices.Where(static notice => notice.Kind == PeerNoticeKind.Unreachable)];

        async Task<PeerNotice[]> SaidAsync(int count)
        {
            using var patience = new CancellationTokenSource(TestNode.Patience);
            while (Unreachable().Length < count)
            {
                await Task.Delay(5, patience.Token);
            }

            return Unreachable();
        }
    }

    [Fact]
    public async Task EveryMessageOfEveryTypeArrivesAsItWasSent()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        await one.WhenCalledByAsync(two);
        var random = new Random(Seeds.Next(nameof(EveryMessageOfEveryTypeArrivesAsItWasSent)));
        var sent = new List<Message>();
        for (var i = 0; i < 20; i++)
        {
            foreach (var type in Enum.GetValues<MessageType>())
            {
                var message = RandomMessages.Next(random, type, payloadMax: 100_000);
                sent.Add(message);
                one.Transport.Send(in message);
            }

            one.Transport.Flush();
        }

        var count = 0;
        _ = await two.Sink.WaitAsync<Told.Got>(_ => ++count == sent.Count);
        var got = two.Sink.All.OfType<Told.Got>().ToArray();
        for (var i = 0; i < sent.Count; i++)
        {
            RandomMessages.AssertSame(sent[i] with { Entries = default }, got[i].Message with { Entries = default });
            Assert.Equal(sent[i].Entries.ToArray().Select(static entry => entry.Payload.ToArray()), got[i].Payloads);
        }
    }

    [Fact]
    public async Task ForwardsAndRefusalsArriveWithAllTheirNumbers()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        TestNode.Join(one, two);
        await one.WhenCalledByAsync(two);
        Assert.True(one.Transport.SendForward(2, 1, 77, 5, "batch"u8));
        Assert.True(one.Transport.SendForward(2, 1, 77, 6, default));
        one.Transport.SendForwardRefused(2, 7, 9, 3, "no");
        one.Transport.Flush();
        var refused = await two.Sink.WaitAsync<Told.Refused>();
        Assert.Equal(new Told.Refused(1, 7, 9, 3, "no"), refused);
        var forwards = two.Sink.All.OfType<Told.Forward>().ToArray();
        Assert.Equal([(1ul, 77ul, 5ul), (1ul, 77ul, 6ul)], forwards.Select(static f => (f.Origin, f.Incarnation, f.Sequence)));
        Assert.Equal("batch"u8, forwards[0].Payload);
    }

    /// <summary>Another node was here before, and an older configuration still says so.</summary>
    [Fact]
    public async Task ANodeDoesNotCallItself()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        one.Transport.SetPeers(new Dictionary<ulong, string> { [9] = one.Options.Identity.Address, [2] = two.Options.Identity.Address });
        two.Transport.SetPeers(new Dictionary<ulong, string> { [1] = one.Options.Identity.Address });
        await one.WhenCalledByAsync(two);
        // Long enough for dozens of calls.
        await Task.Delay(200, TestContext.Current.CancellationToken);
        Assert.DoesNotContain(
            one.Notices, static notice => notice.Kind is PeerNoticeKind.Refused or PeerNoticeKind.Unreachable or PeerNoticeKind.CallRefused);
    }

    [Fact]
    public async Task OneDirectionOfCallingIsEnoughForBothDirectionsOfMessages()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);

        // Two knows nobody: it answers on the connection that it was called on.
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        Assert.Equal(one.Address, (await two.WhenCalledByAsync(one)).Address);
        _ = await one.Sink.WaitAsync<Told.Connected>();
        Heartbeat(one, two, 1);
        Heartbeat(two, one, 2);
        _ = await two.Sink.WaitAsync<Told.Got>(static got => got.Message.Term == 1);
        _ = await one.Sink.WaitAsync<Told.Got>(static got => got.Message.Term == 2);
    }

    [Fact]
    public async Task BrokenConnectionIsReportedAndMadeAgain()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        _ = await one.Sink.WaitAsync<Told.Connected>();
        for (var round = 1ul; round <= 3; round++)
        {
            var mark = one.Sink.All.Count;
            await two.WhenCalledByAsync(one);
            two.BreakAccepted();
            _ = await one.Sink.WaitAsync<Told.Unreachable>(from: mark);
            _ = await one.Sink.WaitAsync<Told.Connected>(from: mark);
            await DeliveredAsync(one, two, 100 + round);
        }
    }

    [Fact]
    public async Task PeerThatStartsLaterAndElsewhereIsFound()
    {
        using var one = new TestNode(1);
        string gone;
        using (var two = new TestNode(2, incarnation: 1))
        {
            TestNode.Join(one, two);
            await one.WhenCalledByAsync(two);
            gone = two.Address;
        }

        _ = await one.Sink.WaitAsync<Told.Unreachable>();
        var mark = one.Sink.All.Count;
        using var again = new TestNode(2, incarnation: 2);
        Assert.NotEqual(gone, again.Address);
        TestNode.Join(one, again);
        await one.WhenCalledByAsync(again, mark);
        await DeliveredAsync(one, again, 5);
    }

    [Fact]
    public async Task NewerStartReplacesAnOlderConnectionAndAnOlderStartIsRefused()
    {
        using var one = new TestNode(1);
        using var newer = new TestNode(2, incarnation: 20);
        using var older = new TestNode(2, incarnation: 10);
        var toOne = new Dictionary<ulong, string> { [1] = one.Address };
        older.Transport.SetPeers(toOne);
        await one.WhenCalledByAsync(older);
        newer.Transport.SetPeers(toOne);
        await one.WhenCalledByAsync(newer);
        _ = await older.Sink.WaitAsync<Told.Unreachable>();

        // The older one calls again and again, and is told why it is not let in.
        while (!older.Notices.Any(static notice => notice.Detail.Contains("newer start", StringComparison.Ordinal)))
        {
            await Task.Delay(2);
        }

        await DeliveredAsync(one, newer, 3);
        Assert.DoesNotContain(older.Sink.All, static told => told is Told.Got { Message.Term: 3 });
    }

    [Fact]
    public async Task PeerThatIsNoLongerNamedIsDisconnected()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2);
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        _ = await one.Sink.WaitAsync<Told.Connected>();
        one.Transport.SetPeers(new Dictionary<ulong, string>());
        _ = await one.Sink.WaitAsync<Told.Unreachable>();
        _ = await two.Sink.WaitAsync<Told.Unreachable>();
        Assert.False(one.Transport.IsConnected(2));
        Assert.False(one.Transport.SendForward(2, 1, 1, 1, "x"u8));
    }

    [Fact]
    public async Task FullSocketBuffersInBothDirectionsDoNotStopEitherNode()
    {
        using var one = new TestNode(1, countsOnly: true, configure: Roomy);
        using var two = new TestNode(2, countsOnly: true, configure: Roomy);
        TestNode.Join(one, two);
        await one.WhenCalledByAsync(two);
        await two.WhenCalledByAsync(one);

        // Far more than two sockets hold, at once, from both ends, before either waits for anything.
        const int count = 150;
        var payload = new byte[1 << 20];
        for (var i = 0; i < count; i++)
        {
            foreach (var (from, to) in new[] { (one, two), (two, one) })
            {
                from.Transport.Send(Append(from.Id, to.Id, 1, payload));
                from.Transport.Flush();
            }
        }

        while (Volatile.Read(ref one.Sink.Messages) < count || Volatile.Read(ref two.Sink.Messages) < count)
        {
            Assert.True(one.Transport.IsConnected(2));
            await Task.Delay(5);
        }

        static TransportOptions Roomy(TransportOptions options) => options with { QueuedBytesMax = 1 << 30 };
    }

    [Fact]
    public async Task PeerThatDoesNotReadCostsBoundedMemoryAndForwardsAreNotLostSilently()
    {
        const long queuedMax = 4 << 20;
        var gate = new TaskCompletionSource();
        using var one = new TestNode(1, configure: static options => options with { QueuedBytesMax = queuedMax });
        using var two = new TestNode(2, wrap: channel => new HeldChannel(channel, gate.Task));
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        _ = await one.Sink.WaitAsync<Told.Connected>();
        Heartbeat(one, two, 1);
        _ = await two.Sink.WaitAsync<Told.Got>();

        // The socket may take more while this looks: until an Append is dropped.
        var payload = new byte[100_000];
        var taken = 0ul;
        while (!one.Sink.All.Any(static told => told is Told.Unreachable))
        {
            while (one.Transport.SendForward(2, 1, 1, taken + 1, payload))
            {
                taken++;
                one.Transport.Flush();
                Assert.True(one.Transport.QueuedBytes(2) <= queuedMax);
            }

            one.Transport.Send(Append(1, 2, 1, payload));
        }

        Assert.True(one.Transport.IsConnected(2));

        // It reads on: all that was taken arrives, and there is room again.
        gate.SetResult();
        _ = await two.Sink.WaitAsync<Told.Forward>(forward => forward.Sequence == taken);
        Assert.Equal(taken, (ulong)two.Sink.All.OfType<Told.Forward>().LongCount());
        while (!one.Transport.SendForward(2, 1, 1, taken + 1, payload))
        {
            await Task.Delay(2);
        }
    }

    [Fact]
    public async Task OneMessageLargerThanTheLimitGoesAlone()
    {
        using var one = new TestNode(1, configure: static options => options with { QueuedBytesMax = 1 << 20 });
        using var two = new TestNode(2);
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        _ = await one.Sink.WaitAsync<Told.Connected>();
        var payload = new byte[20 << 20];
        new Random(4).NextBytes(payload);
        one.Transport.Send(Append(1, 2, 1, payload));
        one.Transport.Flush();
        var got = await two.Sink.WaitAsync<Told.Got>();
        Assert.True(payload.AsSpan().SequenceEqual(got.Payloads[0]));
    }

    [Fact]
    public async Task IdleConnectionShowsThatBothEndsLive()
    {
        CountingChannel? channel = null;
        using var one = new TestNode(1, configure: Quick);
        using var two = new TestNode(2, configure: Quick, wrap: accepted => channel = new CountingChannel(accepted));
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        await two.WhenCalledByAsync(one);
        var (received, sent) = (channel!.Received, channel.Sent);
        while (channel.Received < received + (10 * PeerFrameHeader.Bytes) || channel.Sent < sent + (10 * PeerFrameHeader.Bytes))
        {
            await Task.Delay(5);
        }

        Assert.DoesNotContain(one.Sink.All, static told => told is Told.Got or Told.Unreachable);

        static TransportOptions Quick(TransportOptions options) => options with { PingInterval = TimeSpan.FromMilliseconds(20) };
    }

    [Fact]
    public async Task SilentPeerIsGivenUp()
    {
        using var one = new TestNode(
            1, configure: static options => options with { PingInterval = TimeSpan.FromMilliseconds(20), SilentIntervalsMax = 10 });
        using var two = new TestNode(2, wrap: static channel => new DeafChannel(channel));
        one.Transport.SetPeers(new Dictionary<ulong, string> { [2] = two.Address });
        _ = await one.Sink.WaitAsync<Told.Connected>();
        _ = await one.Sink.WaitAsync<Told.Unreachable>();
        Assert.Contains(one.Notices, static notice => notice.Detail.StartsWith("nothing came", StringComparison.Ordinal));
    }

    [Fact]
    public async Task RequestsReachWhoeverListensAndAnswersComeBack()
    {
        using var one = new TestNode(1);
        using var joining = new TestNode(9, cluster: 0);
        var asked = new List<ControlRequest>();
        one.Sink.Control = request =>
        {
            asked.Add(request);
            return new ControlReply(4, request.Body.ToArray().Reverse().ToArray());
        };
        var reply = await joining.Transport.AskAsync(one.Address, new ControlRequest(3, "abc"u8.ToArray()), default);
        Assert.Equal((4, "cba", 7ul, 1ul), (reply.Status, System.Text.Encoding.ASCII.GetString(reply.Body.Span), reply.ClusterId, reply.From));
        Assert.Equal((3, 9ul, false), (asked[0].Kind, asked[0].From, asked[0].IsMember));

        joining.Transport.SetCluster(7);
        _ = await joining.Transport.AskAsync(one.Address, new ControlRequest(3, default), default);
        Assert.True(asked[1].IsMember);
    }

    [Fact]
    public async Task RequestToNobodyFailsWithTheAddressOrTheReason()
    {
        using var one = new TestNode(1);
        one.StopListening();
        using var two = new TestNode(2);
        _ = await Assert.ThrowsAsync<TransportException>(
            async () => await two.Transport.AskAsync(one.Address, new ControlRequest(1, default), default));
        _ = await Assert.ThrowsAsync<TransportException>(
            async () => await two.Transport.AskAsync("nonsense", new ControlRequest(1, default), default));
    }

    [Fact]
    public async Task JoiningNodeIsCalledWithoutAnyAlarmUntilItLearnsItsCluster()
    {
        var calls = 0;
        TransportOptions Hasten(TransportOptions options) => options with { Time = new HastyClock() };
        using var member = new TestNode(1, configure: Hasten);
        using var joining = new TestNode(2, cluster: 0, configure: Hasten, wrap: channel =>
        {
            _ = Interlocked.Increment(ref calls);
            return channel;
        });
        member.Transport.SetPeers(new Dictionary<ulong, string> { [2] = joining.Address });
        while (Volatile.Read(ref calls) < 12)
        {
            await Task.Delay(5, TestContext.Current.CancellationToken);
        }

        Assert.DoesNotContain(member.Notices, static notice => notice.Kind == PeerNoticeKind.CallRefused);
        Assert.DoesNotContain(joining.Notices, static notice => notice.Kind == PeerNoticeKind.Refused);
        joining.Transport.SetCluster(7);
        _ = await member.Sink.WaitAsync<Told.Connected>();
        Assert.Contains(member.Notices, static notice => notice.Kind == PeerNoticeKind.Connected);
    }

    [Fact]
    public async Task JoiningNodeThatLearnsItsClusterConnects()
    {
        using var one = new TestNode(1);
        using var two = new TestNode(2, cluster: 0);
        TestNode.Join(one, two);
        Assert.False(two.Transport.IsConnected(1));
        two.Transport.SetCluster(7);
        await one.WhenCalledByAsync(two);
        await two.WhenCalledByAsync(one);
        await DeliveredAsync(one, two, 8);
    }

    [Theory]
    [InlineData("127.0.0.1:80", "127.0.0.1", 80)]
    [InlineData("[::1]:65535", "::1", 65535)]
    [InlineData("db-1.example.org:4920", "db-1.example.org", 4920)]
    [InlineData(":4920", null, 0)]
    [InlineData("host", null, 0)]
    [InlineData("host:", null, 0)]
    [InlineData("host:0", null, 0)]
    [InlineData("host:65536", null, 0)]
    [InlineData("host:-1", null, 0)]
    [InlineData("", null, 0)]
    public void AddressIsHostAndPort(string address, string? host, int port)
    {
        var isAddress = PeerDialer.TryParse(address, out var readHost, out var readPort);
        Assert.Equal(host is not null, isAddress);
        if (host is not null)
        {
            Assert.Equal((host, port), (readHost, readPort));
        }
    }

    internal static Message Append(ulong from, ulong to, ulong index, byte[] payload) => new()
    {
        Type = MessageType.Append,
        From = from,
        To = to,
        Term = 1,
        Entries = new[] { new LogEntry(new EntryId(1, index), EntryKind.Normal, payload) },
    };

    internal static void Heartbeat(TestNode from, TestNode to, ulong term)
    {
        from.Transport.Send(new Message { Type = MessageType.Heartbeat, From = from.Id, To = to.Id, Term = term });
        from.Transport.Flush();
    }

    /// <summary>Sends until one gets through: the way may be about to change.</summary>
    internal static async Task DeliveredAsync(TestNode from, TestNode to, ulong term)
    {
        while (!to.Sink.All.Any(told => told is Told.Got got && got.Message.Term == term))
        {
            Heartbeat(from, to, term);
            await Task.Delay(2);
        }
    }

    /// <summary>After the handshake and a little more it does not read before the gate opens.</summary>
    private sealed class HeldChannel(PeerChannel inner, Task gate) : WrappedChannel(inner)
    {
        private int _received;

        public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
        {
            if (_received > 200)
            {
                await gate;
            }

            var received = await base.ReceiveAsync(buffer, cancellation);
            _received += received;
            return received;
        }
    }

    private sealed class CountingChannel(PeerChannel inner) : WrappedChannel(inner)
    {
        private long _received;
        private long _sent;

        public long Received => Volatile.Read(ref _received);

        public long Sent => Volatile.Read(ref _sent);

        public override int TrySend(ReadOnlySpan<byte> bytes)
        {
            var sent = base.TrySend(bytes);
            _ = Interlocked.Add(ref _sent, sent);
            return sent;
        }

        public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
        {
            var received = await base.ReceiveAsync(buffer, cancellation);
            _ = Interlocked.Add(ref _received, received);
            return received;
        }
    }

    /// <summary>Sends its handshake and then nothing any more.</summary>
    private sealed class DeafChannel(PeerChannel inner) : WrappedChannel(inner)
    {
        private int _sends;

        public override int TrySend(ReadOnlySpan<byte> bytes) => bytes.Length;

        public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
            ++_sends <= 2 ? base.SendAsync(bytes, cancellation) : ValueTask.CompletedTask;
    }

    /// <summary>A hundred times as fast for whoever asks it; timers take their own time.</summary>
    private sealed class HastyClock : TimeProvider
    {
        public override long GetTimestamp() => base.GetTimestamp() * 100;
    }
}
