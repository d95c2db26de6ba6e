using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;
using KvNode.Raft.Wal;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>Who gets in and who does not; and that knocking changes nothing.</summary>
public sealed class PeerHandshakeTests
{
    private static readonly TransportSecurity Secret = new() { Secret = "a secret of the cluster"u8.ToArray() };
    private static readonly TransportSecurity OtherSecret = new() { Secret = "a secret of the clusteR"u8.ToArray() };

    public static TheoryData<string, bool, bool, ulong, ulong, string?> Table => new()
    {
        // who, caller has the secret (or another: null is not in this table), called has it, caller's cluster, id; what is said
        { "the same secret", true, true, 7, 2, null },
        { "no secret at all on one machine", false, false, 7, 2, null },
        { "only the called asks for a secret", false, true, 7, 2, "it asks for a cluster secret" },
        { "only the caller has a secret", true, false, 7, 2, "it has no cluster secret" },
        { "a foreign cluster", true, true, 8, 2, "a node of another cluster" },
        { "the called node's own id", true, true, 7, 1, "the same node id on both ends" },
    };

    [Theory]
    [MemberData(nameof(Table))]
    public async Task OnlyWhoBelongsGetsIn(
        string who, bool callerHasSecret, bool calledHasSecret, ulong cluster, ulong id, string? refusal)
    {
        Assert.NotEmpty(who);
        using var called = new TestNode(1, security: calledHasSecret ? Secret : TransportSecurity.None);
        using var caller = new TestNode(
            id, cluster: cluster, security: callerHasSecret ? Secret : TransportSecurity.None);
        var said = await CallAsync(caller, called, expected: 1);
        Assert.Equal(refusal, said);
        if (refusal is not null)
        {
            AssertUntouched(called);
        }
    }

    [Fact]
    public async Task AnotherSecretIsRefusedWithOneLineAndNothingChanges()
    {
        using var called = new TestNode(1, security: Secret);
        using var caller = new TestNode(2, security: OtherSecret);
        Assert.Equal(
            "no proof of belonging to the cluster: check secret and certificate on both ends",
            await CallAsync(caller, called, expected: 1));
        AssertUntouched(called);
        while (called.Notices.IsEmpty)
        {
            await Task.Delay(2);
        }

        Assert.Equal(PeerNoticeKind.Refused, Assert.Single(called.Notices).Kind);
    }

    [Fact]
    public async Task CalledNodeMustProveItselfToo()
    {
        // It says that it asks for the secret, lets anybody in, and does not know the secret itself.
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var impostor = ImpostorAsync(listener);
        using var caller = new TestNode(2, security: Secret);
        var failure = await Assert.ThrowsAsync<TransportException>(
            async () => await caller.Transport.AskAsync(
                listener.LocalEndpoint.ToString()!, new ControlRequest(1, "secret plans"u8.ToArray()), default));
        Assert.Contains("does not know the cluster's secret", failure.Message, StringComparison.Ordinal);

        // It closed without having sent its request.
        Assert.Equal(0, await impostor);
    }

    [Fact]
    public async Task WrongNodeBehindAnAddressIsLeftAlone()
    {
        using var called = new TestNode(1);
        using var caller = new TestNode(2);
        Assert.Equal("not the node that was called for", await CallAsync(caller, called, expected: 3));
        AssertUntouched(called);
    }

    [Fact]
    public async Task FutureVersionIsToldAndRefused()
    {
        using var called = new TestNode(1);
        var hello = Hello(cluster: 7, id: 2);
        BinaryPrimitives.WriteUInt16LittleEndian(hello.AsSpan(8), 2);
        BinaryPrimitives.WriteUInt16LittleEndian(hello.AsSpan(10), 9);
        var answer = await TalkAsync(called, hello);
        Assert.Equal((byte)PeerRefusal.Version, answer[10]);
        AssertUntouched(called);
        Assert.Contains("versions 2 to 9", Assert.Single(called.Notices, static n => n.Kind == PeerNoticeKind.Refused).Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WithoutAnyProofOnlyThisMachineIsDealtWith()
    {
        using var called = new TestNode(
            1, wrap: static channel => new RemoteChannel(channel, new IPEndPoint(IPAddress.Parse("192.0.2.1"), 5)));
        Assert.Empty(await TalkAsync(called, Hello(cluster: 7, id: 2)));
        AssertUntouched(called);
        Assert.Equal(
            [PeerNoticeKind.LoopbackOnly, PeerNoticeKind.Refused],
            called.Notices.Select(static notice => notice.Kind).Order());
    }

    [Fact]
    public async Task RecordedHandshakeProvesNothingASecondTime()
    {
        using var called = new TestNode(1, security: Secret);
        var recorded = new List<RecordingChannel>();
        called.Wrap = channel =>
        {
            var recording = new RecordingChannel(channel);
            recorded.Add(recording);
            return recording;
        };
        byte[] session;
        using (var caller = new TestNode(2, security: Secret))
        {
            caller.Transport.SetPeers(new Dictionary<ulong, string> { [1] = called.Address });
            await called.WhenCalledByAsync(caller);
            await PeerTransportTests.DeliveredAsync(caller, called, 5);
            session = recorded[0].Received;
        }

        _ = await called.Sink.WaitAsync<Told.Unreachable>();
        var before = called.Sink.All.Count;
        var answer = await TalkAsync(called, session);
        Assert.Equal(64 + 40, answer.Length);
        Assert.Equal((byte)PeerRefusal.Proof, answer[64]);
        Assert.Equal(before, called.Sink.All.Count);
    }

    [Fact]
    public async Task EveryDamagedHelloIsRefused()
    {
        using var called = new TestNode(1);
        var good = Hello(cluster: 7, id: 2);
        for (var i = 0; i < good.Length; i++)
        {
            var bad = (byte[])good.Clone();
            bad[i] ^= 0x10;
            var answer = await TalkAsync(called, [.. bad, .. new byte[32]]);

            // Nothing at all, or a refusal: of the version, whose place is fixed and not covered.
            Assert.True(answer.Length == 0 || (answer.Length == 64 && answer[10] == (byte)PeerRefusal.Version), $"byte {i}");
        }

        for (var length = 0; length < good.Length; length++)
        {
            Assert.Empty(await TalkAsync(called, good[..length]));
        }

        AssertUntouched(called);
    }

    [Fact]
    public async Task GarbageOfManyKindsChangesNothingAndTheNodeServesOn()
    {
        using var called = new TestNode(1, security: Secret);
        var random = new Random(Seeds.Next(nameof(GarbageOfManyKindsChangesNothingAndTheNodeServesOn)));
        for (var round = 0; round < 200; round++)
        {
            var garbage = RandomMessages.NextBytes(random, 600);
            byte[] bytes = random.Next(4) switch
            {
                0 => garbage,
                1 => [.. PeerMagic.Value, .. garbage],
                2 => [.. Hello(7, 2), .. garbage],
                _ => [.. Hello((ulong)random.Next(9), (ulong)random.Next(4), (PeerPurpose)random.Next(5)), .. new byte[32], .. garbage],
            };
            var answer = await TalkAsync(called, bytes);
            Assert.True(answer.Length is 0 or 64 or (64 + 40));
            Assert.True(answer.Length < 64 + 40 || answer[64] != 0);
        }

        AssertUntouched(called);
        Assert.InRange(called.Notices.Count, 1, 199);
        using var caller = new TestNode(2, security: Secret);
        Assert.Null(await CallAsync(caller, called, expected: 1));
    }

    [Fact]
    public async Task DamagedSessionDeliversOnlyWholeFramesAndThenCloses()
    {
        var random = new Random(Seeds.Next(nameof(DamagedSessionDeliversOnlyWholeFramesAndThenCloses)));
        var frames = new List<byte>();
        for (var term = 1ul; term <= 20; term++)
        {
            var message = new Message { Type = MessageType.Heartbeat, Term = term };
            frames.AddRange(RandomMessages.Frame(in message));
        }

        using var called = new TestNode(1);
        for (var round = 0; round < 60; round++)
        {
            var hurt = frames.ToArray();
            var at = random.Next(hurt.Length);
            hurt[at] ^= (byte)random.Next(1, 256);
            var mark = called.Sink.All.Count;
            _ = await TalkAsync(called, [.. Hello(7, 2), .. new byte[32], .. hurt]);
            var news = called.Sink.All.Skip(mark).ToArray();
            Assert.Equal(
                Enumerable.Range(1, at / PeerFrameHeader.Bytes).Select(static term => (ulong)term),
                news.OfType<Told.Got>().Select(static got => got.Message.Term));
            _ = await called.Sink.WaitAsync<Told.Unreachable>(from: mark);
        }
    }

    [Fact]
    public async Task UnknownFrameTypeClosesTheConnection()
    {
        using var called = new TestNode(1);
        var frame = new byte[PeerFrameHeader.Bytes];
        PeerFrameHeader.Seal(frame, (FrameType)200, 0, default);
        _ = await TalkAsync(called, [.. Hello(7, 2), .. new byte[32], .. frame], end: false);
        _ = await called.Sink.WaitAsync<Told.Unreachable>();
        Assert.Contains(called.Notices, static notice => notice.Detail.Contains("unknown type, 200", StringComparison.Ordinal));
    }

    [Fact]
    public async Task SlowHandshakeIsEnded()
    {
        using var called = new TestNode(
            1, configure: static options => options with { HandshakeTimeout = TimeSpan.FromMilliseconds(50) });
        Assert.Empty(await TalkAsync(called, Hello(7, 2)[..30], end: false));
        Assert.Contains("in time", Assert.Single(called.Notices, static n => n.Kind == PeerNoticeKind.Refused).Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task HelloHasAShortTimeOfItsOwn()
    {
        using var called = new TestNode(1, configure: static options => options with
        {
            HelloTimeout = TimeSpan.FromMilliseconds(50),
            HandshakeTimeout = TestNode.Patience,
        });
        Assert.Empty(await TalkAsync(called, PeerMagic.Value.ToArray(), end: false).WaitAsync(TestNode.Patience / 2));

        // What comes after the hello has the rest of the time.
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, called.Port);
        _ = await socket.SendAsync(Hello(7, 2));
        var buffer = new byte[200];
        Assert.Equal(64, await socket.ReceiveAsync(buffer).WaitAsync(TestNode.Patience));
        await Task.Delay(200);
        _ = await socket.SendAsync(new byte[32]);
        Assert.Equal(40, await socket.ReceiveAsync(buffer).WaitAsync(TestNode.Patience));
        Assert.Equal((byte)PeerRefusal.None, buffer[0]);
    }

    [Fact]
    public async Task WhoOnlyHoldsConnectionsOpenLocksNobodyOut()
    {
        using var called = new TestNode(1, security: Secret, configure: static options => options with
        {
            HelloTimeout = TestNode.Patience,
            HandshakeTimeout = TestNode.Patience,
        });
        var idle = new List<Socket>();
        try
        {
            for (var i = 0; i < TransportLimits.HandshakesMax; i++)
            {
                idle.Add(new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
                await idle[i].ConnectAsync(IPAddress.Loopback, called.Port);

                // The first has said hello already, and keeps its place for it.
                _ = await idle[i].SendAsync(i == 0 ? Hello(7, 2) : PeerMagic.Value.ToArray());
                _ = i > 0 ? 0 : await idle[i].ReceiveAsync(new byte[64]);
            }

            using var caller = new TestNode(2, security: Secret);
            for (var i = 1; i <= 3; i++)
            {
                Assert.Null(await CallAsync(caller, called, expected: 1));
            }

            Assert.Equal(0, await EndAsync(idle[1]));
            Assert.False(idle[0].Poll(0, SelectMode.SelectRead));
        }
        finally
        {
            idle.ForEach(static socket => socket.Dispose());
        }
    }

    private static async Task<int> EndAsync(Socket socket)
    {
        try
        {
            return await socket.ReceiveAsync(new byte[1]).WaitAsync(TestNode.Patience);
        }
        catch (SocketException)
        {
            return 0; // Closed with bytes unread.
        }
    }

    private static void AssertUntouched(TestNode node)
    {
        Assert.Empty(node.Sink.All);
        Assert.False(node.Transport.IsConnected(2));
    }

    /// <summary>Null when it was let in, else what it was told.</summary>
    private static async Task<string?> CallAsync(TestNode caller, TestNode called, ulong expected)
    {
        var dialer = new PeerDialer(caller.Options);
        try
        {
            var (channel, peer) = await dialer.CallAsync(
                called.Address, new PeerHello(caller.Options.Identity, PeerPurpose.Messages, expected), default);
            Assert.Equal(called.Id, peer.NodeId);
            channel.Close();
            return null;
        }
        catch (PeerRefusedException e)
        {
            return e.Message;
        }
    }

    private static byte[] Hello(ulong cluster, ulong id, PeerPurpose purpose = PeerPurpose.Messages)
    {
        var bytes = new byte[64 + 3 + 4];
        PeerMagic.Value.CopyTo(bytes);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), 1);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(10), 1);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(12), (ushort)bytes.Length);
        bytes[14] = (byte)purpose;
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), cluster);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(24), id);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(32), 1);
        Encoding.UTF8.GetBytes("a:1").CopyTo(bytes, 64);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(67), Crc32C.Compute(bytes.AsSpan(0, 67)));
        return bytes;
    }

    /// <summary>Sends bytes and returns all that comes back until the node ends the connection.</summary>
    private static async Task<byte[]> TalkAsync(TestNode node, byte[] bytes, bool end = true)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, node.Port);
        var answer = new List<byte>();
        var buffer = new byte[4096];
        try
        {
            _ = await socket.SendAsync(bytes);
            if (end)
            {
                socket.Shutdown(SocketShutdown.Send);
            }

            int received;
            while ((received = await socket.ReceiveAsync(buffer).WaitAsync(TestNode.Patience)) > 0)
            {
                answer.AddRange(buffer.AsSpan(0, received));
            }
        }
        catch (SocketException)
        {
            // Closed with bytes unread: as good an end as any.
        }

        return [.. answer];
    }

    private static async Task<int> ImpostorAsync(TcpListener listener)
    {
        using var socket = await listener.AcceptSocketAsync();
        var buffer = new byte[1024];
        _ = await socket.ReceiveAsync(buffer);
        var challenge = new byte[64];
        PeerMagic.Value.CopyTo(challenge);
        challenge[8] = 1;
        challenge[11] = 1;
        challenge[24] = 1;
        BinaryPrimitives.WriteUInt32LittleEndian(
            challenge.AsSpan(12), Crc32C.Compute(challenge.AsSpan(16)) ^ Crc32C.Compute(challenge.AsSpan(0, 12)));
        _ = await socket.SendAsync(challenge);
        _ = await socket.ReceiveAsync(buffer);
        _ = await socket.SendAsync(new byte[40]);
        return await socket.ReceiveAsync(buffer).WaitAsync(TestNode.Patience);
    }

    private sealed class RemoteChannel(PeerChannel inner, EndPoint remote) : WrappedChannel(inner)
    {
        public override EndPoint? Remote => remote;
    }

    private sealed class RecordingChannel(PeerChannel inner) : WrappedChannel(inner)
    {
        private readonly Lock _lock = new();
        private readonly List<byte> _received = [];

        public byte[] Received
        {
            get
            {
                lock (_lock)
                {
                    return [.. _received];
                }
            }
        }

        public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
        {
            var received = await base.ReceiveAsync(buffer, cancellation);
            lock (_lock)
            {
                _received.AddRange(buffer.Span[..received]);
            }

            return received;
        }
    }
}
