using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>What a sink was told, in the order it was told.</summary>
internal abstract record Told
{
    public sealed record Got(Message Message, byte[][] Payloads) : Told;

    public sealed record Forward(ulong From, ulong Origin, ulong Incarnation, ulong Sequence, byte[] Payload) : Told;

    public sealed record Refused(ulong From, ulong Incarnation, ulong Sequence, byte Reason, string Text) : Told;

    public sealed record Unreachable(ulong Peer) : Told;

    public sealed record Connected(ulong Peer, string Address) : Told;
}

/// <summary>Remembers everything and lets a test wait for it.</summary>
internal sealed class RecordingSink : IPeerSink
{
    private readonly Lock _lock = new();
    private readonly List<Told> _told = [];
    private TaskCompletionSource _more = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Func<ControlRequest, ControlReply> Control { get; set; } = static _ => new ControlReply(0, default);

    public Func<ulong, SnapshotOffer, ISnapshotReceiver?> Offer { get; set; } = static (_, _) => null;

    /// <summary>Set: messages are counted and not kept.</summary>
    public bool CountsOnly { get; init; }

    public long Messages;

    public IReadOnlyList<Told> All
    {
        get
        {
            lock (_lock)
            {
                return [.. _told];
            }
        }
    }

    public void OnMessage(in Message message, FrameBuffer? buffer)
    {
        _ = Interlocked.Increment(ref Messages);
        if (!CountsOnly)
        {
            var payloads = message.Entries.ToArray().Select(static entry => entry.Payload.ToArray()).ToArray();
            var membership = message.Membership.ToArray();
            Add(new Told.Got(message with { Entries = message.Entries.ToArray(), Membership = membership }, payloads));
        }

        buffer?.Release();
    }

    public void OnForward(
        ulong from, ulong term, ulong incarnation, ulong sequence, ReadOnlyMemory<byte> payload, FrameBuffer? buffer)
    {
        Add(new Told.Forward(from, term, incarnation, sequence, payload.ToArray()));
        buffer?.Release();
    }

    public void OnForwardRefused(ulong from, ulong incarnation, ulong sequence, byte reason, string text) =>
        Add(new Told.Refused(from, incarnation, sequence, reason, text));

    public void OnDelivered()
    {
    }

    public void OnUnreachable(ulong peer) => Add(new Told.Unreachable(peer));

    public void OnConnected(ulong peer, string address) => Add(new Told.Connected(peer, address));

    public ValueTask<ControlReply> OnControlAsync(ControlRequest request, CancellationToken cancellation) =>
        ValueTask.FromResult(Control(request));

    public ISnapshotReceiver? OnSnapshotOffer(ulong from, SnapshotOffer offer) => Offer(from, offer);

    /// <summary>The first thing told, from a place in the list on, that fits; waits until it is told.</summary>
    public async Task<T> WaitAsync<T>(Func<T, bool>? fits = null, int from = 0)
        where T : Told
    {
        while (true)
        {
            Task more;
            lock (_lock)
            {
                for (; from < _told.Count; from++)
                {
                    if (_told[from] is T told && (fits is null || fits(told)))
                    {
                        return told;
                    }
                }

                more = _more.Task;
            }

            await more.WaitAsync(TestNode.Patience);
        }
    }

    private void Add(Told told)
    {
        TaskCompletionSource more;
        lock (_lock)
        {
            _told.Add(told);
            more = _more;
            _more = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        more.SetResult();
    }
}

/// <summary>A transport with a listener of its own on loopback, as the server's would be.</summary>
internal sealed class TestNode : IDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly TcpListener _listener;
    private readonly TransportSecurity _security;
    private readonly ConcurrentBag<PeerChannel> _accepted = [];

    /// <param name="wrap">Sees each accepted connection before the transport does.</param>
    public TestNode(
        ulong id,
        ulong incarnation = 1,
        ulong cluster = 7,
        TransportSecurity? security = null,
        Func<TransportOptions, TransportOptions>? configure = null,
        Func<PeerChannel, PeerChannel>? wrap = null,
        bool countsOnly = false)
    {
        Sink = new RecordingSink { CountsOnly = countsOnly };
        _security = security ?? TransportSecurity.None;
        _listener = new TcpListener(IPAddress.Loopback, 0);
        _listener.Start();
        var address = _listener.LocalEndpoint.ToString()!;
        var options = new TransportOptions
        {
            Identity = new PeerIdentity(cluster, id, incarnation, address),
            Security = _security,
            BackOffMin = TimeSpan.FromMilliseconds(5),
            BackOffMax = TimeSpan.FromMilliseconds(50),

            // On a machine that is busy with other tests a node may well be silent for a while.
            SilentIntervalsMax = 1000,
            Notice = Notices.Enqueue,
        };
        Options = configure?.Invoke(options) ?? options;
        Transport = new PeerTransport(Options);
        Wrap = wrap ?? (static channel => channel);
        Transport.Start(Sink);
        _ = AcceptAsync();
    }

    public TransportOptions Options { get; }

    public PeerTransport Transport { get; }

    public RecordingSink Sink { get; }

    public Func<PeerChannel, PeerChannel> Wrap { get; set; }

    public ConcurrentQueue<PeerNotice> Notices { get; } = new();

    public ulong Id => Options.Identity.NodeId;

    public string Address => Options.Identity.Address;

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Each calls the others, by another spelling of the address than the one that they give themselves.</summary>
    public static void Join(params TestNode[] nodes)
    {
        var addresses = nodes.ToDictionary(static node => node.Id, static node => $"[::ffff:127.0.0.1]:{node.Port}");
        foreach (var node in nodes)
        {
            node.Transport.SetPeers(addresses);
        }
    }

    /// <summary>Until this node has its final way to the other: the connection that the other has made.</summary>
    public Task<Told.Connected> WhenCalledByAsync(TestNode other, int from = 0) =>
        Sink.WaitAsync<Told.Connected>(told => told.Peer == other.Id && told.Address == other.Address, from);

    /// <summary>Closes all accepted connections.</summary>
    public void BreakAccepted()
    {
        while (_accepted.TryTake(out var channel))
        {
            channel.Close();
        }
    }

    public void StopListening() => _listener.Stop();

    public void Dispose()
    {
        Transport.Dispose();
        _listener.Stop();
        BreakAccepted();
        _listener.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _listener.AcceptSocketAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // The end of the test.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        PeerChannel channel;
        if (_security.Tls is { } tls)
        {
            var remote = socket.RemoteEndPoint;
            var stream = new SslStream(new NetworkStream(socket, ownsSocket: true));
            try
            {
                await stream.AuthenticateAsServerAsync(tls.ServerOptions(reason => Transport.NoteRefused(remote, reason)));
            }
            catch (Exception e) when (e is IOException or System.Security.Authentication.AuthenticationException)
            {
                await stream.DisposeAsync();
                return;
            }

            channel = new StreamChannel(stream, remote, stream.RemoteCertificate is not null);
        }
        else
        {
            channel = new SocketChannel(socket);
        }

        channel = Wrap(channel);
        _accepted.Add(channel);
        await Transport.ServeAsync(channel);
    }
}

/// <summary>A connection that a test can hold, cut or watch.</summary>
internal class WrappedChannel(PeerChannel inner) : PeerChannel
{
    public override EndPoint? Remote => inner.Remote;

    public override bool IsCertified => inner.IsCertified;

    public override int TrySend(ReadOnlySpan<byte> bytes) => inner.TrySend(bytes);

    public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
        inner.SendAsync(bytes, cancellation);

    public override ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation) =>
        inner.ReceiveAsync(buffer, cancellation);

    public override void Close() => inner.Close();
}

/// <summary>Messages of every type with fields that mean something.</summary>
internal static class RandomMessages
{
    public static Message Next(Random random, MessageType type, int entriesMax = 5, int payloadMax = 3000)
    {
        var entries = type == MessageType.Append ? new LogEntry[random.Next(entriesMax + 1)] : [];
        for (var i = 0; i < entries.Length; i++)
        {
            entries[i] = new LogEntry(NextId(random), (EntryKind)random.Next(1, 4), NextBytes(random, payloadMax));
        }

        return new Message
        {
            Type = type,
            From = 1,
            To = 2,
            Term = Number(random),
            Entry = NextId(random),
            Commit = Number(random),
            ReadRound = Number(random),
            Reject = random.Next(2) == 0,
            Force = random.Next(2) == 0,
            Hint = NextId(random),
            Context = Number(random),
            Membership = type == MessageType.InstallSnapshot ? NextBytes(random, payloadMax) : default,
            Entries = entries,
        };
    }

    public static byte[] NextBytes(Random random, int max)
    {
        var bytes = new byte[random.Next(max + 1)];
        random.NextBytes(bytes);
        return bytes;
    }

    public static byte[] Frame(in Message message)
    {
        var frame = new byte[PeerFrameHeader.Bytes + MessageCodec.PayloadBytes(in message)];
        MessageCodec.Encode(in message, frame);
        return frame;
    }

    public static void AssertSame(in Message expected, in Message actual)
    {
        Assert.Equal(
            expected with { Entries = default, Membership = default }, actual with { Entries = default, Membership = default });
        Assert.Equal(expected.Membership.ToArray(), actual.Membership.ToArray());
        Assert.Equal(expected.Entries.Length, actual.Entries.Length);
        for (var i = 0; i < expected.Entries.Length; i++)
        {
            var (one, other) = (expected.Entries.Span[i], actual.Entries.Span[i]);
            Assert.Equal((one.Id, one.Kind), (other.Id, other.Kind));
            Assert.Equal(one.Payload.ToArray(), other.Payload.ToArray());
        }
    }

    private static EntryId NextId(Random random) => new(Number(random), Number(random));

    private static ulong Number(Random random) =>
        random.Next(3) == 0 ? ulong.MaxValue - (ulong)random.Next(3) : (ulong)random.NextInt64();
}
