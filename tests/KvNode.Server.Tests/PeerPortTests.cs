using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using KvNode.Raft;
using KvNode.Raft.Engine;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Transport;
using KvNode.Server.Commands;
using KvNode.Server.Hosting;
using KvNode.Server.Replication;
using KvNode.Server.Resp;
using KvNode.Server.Sessions;
using KvNode.Storage;
using KvNode.Testing;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>One port for clients and for other nodes, plain and inside TLS.</summary>
public sealed class PeerPortTests : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static readonly TimeSpan PeersPatience = TimeSpan.FromSeconds(10);

    private static readonly byte[] Magic = PeerMagic.Value.ToArray();

    private readonly TempDirectory _directory = new("peerport");
    private readonly EchoPeers _peers = new();
    private readonly EventLog _log = new();
    private readonly ServerStats _stats = new();
    private readonly ClientList _clients;
    private readonly Store _store;
    private readonly KvStateMachine _machine;
    private readonly RaftEngine _engine;
    private readonly Executor _executor;
    private Listener? _listener;
    private TlsMaterial? _tls;

    public PeerPortTests()
    {
        _clients = new ClientList(_stats, TimeSpan.Zero);
        Directory.CreateDirectory(_directory.Sub("data"));
        _store = Store.Open(_directory.Sub("data"), new StoreOptions
        {
            EnsureLogDurable = index => _engine!.EnsureLogDurable(index),
            Fatal = static _ => { },
        });
        _executor = new Executor(CommandTable.Default, _stats);
        _machine = new KvStateMachine(_store, _executor, ["127.0.0.1:1"]);
        _engine = new RaftEngine(
            new RaftOptions
            {
                LogDirectory = _directory.Sub("data"),
                DataDirectory = _directory.Sub("data"),
                Address = "127.0.0.1:1",
                SegmentBytes = 1 << 20,
            },
            new NoSnapshots(),
            TransportSecurity.None,
            static _ => { },
            static _ => { });
    }

    public async ValueTask DisposeAsync()
    {
        if (_listener is not null)
        {
            await _listener.StopAsync();
        }

        await _engine.DisposeAsync();
        _machine.Dispose();
        _store.Dispose();
        _tls?.Dispose();
        _directory.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ClientsAndPeersShareThePort(bool tls)
    {
        await ListenAsync(tls);
        await using var client = await ConnectAsync();
        Assert.Equal("+OK\r\n", await ClientAsync(client, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"));
        await using var peer = await ConnectAsync();
        var said = RandomNumberGenerator.GetBytes(3 << 20);
        Magic.CopyTo(said, 0);
        var heard = await EchoAsync(peer, said);
        Assert.True(said.AsSpan().SequenceEqual(heard));
        Assert.Equal("$1\r\nv\r\n", await ClientAsync(client, "GET k\r\n"));

        // The peer is no client.
        Assert.Equal(1, _clients.Count);
        Assert.Equal(IPAddress.Loopback, ((IPEndPoint)_peers.Remotes.Single()!).Address.MapToIPv4());
        Assert.False(_peers.Certified.Single());
    }

    [Fact]
    public async Task PeerWithACertificateIsKnownByIt()
    {
        await ListenAsync(tls: true);
        await using var peer = await ConnectAsync(certified: true);
        Assert.Equal(Magic, await EchoAsync(peer, Magic));
        Assert.True(_peers.Certified.Single());
    }

    [Fact]
    public async Task MagicMayArriveByteByByteAndAnythingElseIsAClients()
    {
        await ListenAsync(tls: false);
        await using var peer = await ConnectAsync();
        foreach (var one in Magic)
        {
            await peer.WriteAsync(new[] { one });
            await peer.FlushAsync();
            await Task.Yield();
        }

        var answer = new byte[PeerMagic.Bytes];
        await peer.ReadExactlyAsync(answer).AsTask().WaitAsync(Patience);
        Assert.Equal(Magic, answer);

        for (var length = 1; length < PeerMagic.Bytes; length++)
        {
            await using var client = await ConnectAsync();
            var reply = await ClientAsync(client, [.. Magic[..length], .. "\r\n"u8]);
            Assert.StartsWith("-ERR unknown command", reply, StringComparison.Ordinal);
            Assert.Equal("+PONG\r\n", await ClientAsync(client, "PING\r\n"));
        }
    }

    [Fact]
    public async Task PeersGetInWhenThereIsNoRoomForClients()
    {
        await ListenAsync(tls: false, clientsMax: 1);
        await using var client = await ConnectAsync();
        Assert.Equal("+PONG\r\n", await ClientAsync(client, "PING\r\n"));
        await using var peer = await ConnectAsync();
        Assert.Equal(Magic, await EchoAsync(peer, Magic));
        await using var second = await ConnectAsync();
        Assert.StartsWith("-ERR max number of clients", await ClientAsync(second, "PING\r\n"), StringComparison.Ordinal);

        // One that says nothing is told as well.
        await using var silent = await ConnectAsync();
        Assert.StartsWith("-ERR max number of clients", await ClientAsync(silent, ""), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task PeersGetInPastAnyNumberOfMuteConnections(bool tls)
    {
        // At a second or more each, so many slots at a time, they would take more than the peer's patience.
        const int Count = 20 * Limits.ConnectionsBesideClients;
        await ListenAsync(tls, clientsMax: 1);
        var mute = new List<Socket>(Count);
        try
        {
            for (var i = 0; i < Count; i++)
            {
                mute.Add(new Socket(SocketType.Stream, ProtocolType.Tcp));
                await mute[i].ConnectAsync(IPAddress.Loopback, Port);
            }

            await using var peer = await ConnectAsync().WaitAsync(PeersPatience);
            Assert.Equal(Magic, await EchoAsync(peer, Magic).WaitAsync(PeersPatience));
        }
        finally
        {
            mute.ForEach(static socket => socket.Dispose());
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task StoppingEndsPeersAndSilentClientsWithoutWaitingForThem(bool tls)
    {
        await ListenAsync(tls);
        await using var peer = await ConnectAsync();
        Assert.Equal(Magic, await EchoAsync(peer, Magic));
        await using var silent = await ConnectAsync();
        while (_clients.Count == 0)
        {
            await Task.Delay(2);
        }

        await _listener!.StopAsync().WaitAsync(Patience);
        Assert.Equal(0, _clients.Count);
        await _peers.Ended.Task.WaitAsync(Patience);
        _listener = null;
    }

    [Fact]
    public async Task LongRepliesAndManyCommandsGoThroughTls()
    {
        await ListenAsync(tls: true);
        await using var client = await ConnectAsync();
        var value = new string('x', 5 << 20);
        Assert.Equal("+OK\r\n", await ClientAsync(client, $"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${value.Length}\r\n{value}\r\n"));
        Assert.Equal($"${value.Length}\r\n{value}\r\n", await ClientAsync(client, "GET k\r\n"));

        // Pipelined, so that replies are added while earlier ones are on their way.
        const int count = 20_000;
        var sending = client.WriteAsync(Encoding.ASCII.GetBytes(
            string.Concat(Enumerable.Range(1, count).Select(static i => $"ECHO {i}\r\n"))));
        var echoes = string.Concat(Enumerable.Range(1, count).Select(static i => $"${$"{i}".Length}\r\n{i}\r\n"));
        var reply = new byte[echoes.Length];
        await client.ReadExactlyAsync(reply).AsTask().WaitAsync(Patience);
        await sending;
        Assert.Equal(echoes, Encoding.ASCII.GetString(reply));
    }

    [Fact]
    public async Task PlainClientAtATlsPortIsClosedAndOthersAreServed()
    {
        await ListenAsync(tls: true);
        using (var plain = new Socket(SocketType.Stream, ProtocolType.Tcp))
        {
            await plain.ConnectAsync(IPAddress.Loopback, Port);
            _ = await plain.SendAsync("PING\r\n"u8.ToArray());
            Assert.Equal(0, await plain.ReceiveAsync(new byte[100]).WaitAsync(Patience));
        }

        await using var client = await ConnectAsync();
        Assert.Equal("+PONG\r\n", await ClientAsync(client, "PING\r\n"));
    }

    [Fact]
    public async Task CertificateOfAnotherAuthorityIsRefusedAndTheReasonIsTold()
    {
        await ListenAsync(tls: true);
        var (known, foreign) = (_tls!, MakeTls());
        try
        {
            _tls = foreign;
            _ = await Assert.ThrowsAnyAsync<Exception>(async () =>
            {
                var options = foreign.ClientOptions("127.0.0.1");
                options.CertificateChainPolicy = null;
                options.RemoteCertificateValidationCallback = static (_, shown, _, _) => shown?.Subject == "CN=node";
                using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
                await socket.ConnectAsync(IPAddress.Loopback, Port);
                await using var secure = new SslStream(new NetworkStream(socket));
                await secure.AuthenticateAsClientAsync(options);
                _ = await EchoAsync(secure, Magic);
            });
        }
        finally
        {
            _tls = known;
            foreign.Dispose();
        }

        Assert.Contains("CN=node", Assert.Single(_peers.Refusals), StringComparison.Ordinal);
        Assert.Empty(_peers.Remotes);
    }

    [Fact]
    public async Task DefectThatAPeerMeetsAgainAndAgainIsLoggedOnceInAWhile()
    {
        await ListenAsync(tls: false);
        _peers.Failure = new InvalidOperationException("a defect");
        for (var i = 0; i < 20; i++)
        {
            await using var peer = await ConnectAsync();
            await peer.WriteAsync(Magic);
            Assert.Equal(0, await peer.ReadAsync(new byte[1]).AsTask().WaitAsync(Patience));
        }

        Assert.Equal([4005], _log.Events.Where(static id => id == 4005));
    }

    private int Port => IPEndPoint.Parse(_listener!.Address).Port;

    private async Task ListenAsync(bool tls, int clientsMax = 100)
    {
        await _engine.StartAsync(_machine, CancellationToken.None);
        var services = new SessionServices(
            CommandTable.Default,
            _store,
            _engine,
            new Proposer(_engine, TimeProvider.System, new FailureReplies(CommandTable.Default, moved: false)),
            _executor,
            new NodeControl(_engine, _store, _clients, _stats, null!, [], static () => { }),
            _stats,
            RespLimits.Default,
            new SessionSettings(64 << 20, ReadLevel.Linearizable, clientsMax, TimeSpan.FromSeconds(300)));
        _tls = tls ? MakeTls() : null;
        _listener = await Listener.StartAsync(
            new ListenAddress("127.0.0.1", 0),
            new RespConnection(services, _clients, _log, _peers),
            _clients,
            clientsMax,
            _tls is null ? null : new TlsConnections(_tls, NullLogger.Instance, _peers));
    }

    private async Task<Stream> ConnectAsync(bool certified = false)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(IPAddress.Loopback, Port);
        var stream = new NetworkStream(socket, ownsSocket: true);
        if (_tls is null)
        {
            return stream;
        }

        var options = _tls.ClientOptions("127.0.0.1");
        if (!certified)
        {
            options.ClientCertificateContext = null;
        }

        var secure = new SslStream(stream);
        await secure.AuthenticateAsClientAsync(options);
        return secure;
    }

    private static Task<string> ClientAsync(Stream stream, string command) =>
        ClientAsync(stream, Encoding.ASCII.GetBytes(command));

    // One command, and its reply: a line, or a bulk.
    private static async Task<string> ClientAsync(Stream stream, byte[] command)
    {
        await stream.WriteAsync(command);
        await stream.FlushAsync();
        var reply = new List<byte>();
        var one = new byte[1];
        while (!reply.TakeLast(2).SequenceEqual("\r\n"u8.ToArray()))
        {
            await stream.ReadExactlyAsync(one).AsTask().WaitAsync(Patience);
            reply.Add(one[0]);
        }

        if (reply[0] == '$')
        {
            var rest = new byte[int.Parse(Encoding.ASCII.GetString([.. reply]).AsSpan(1)) + 2];
            await stream.ReadExactlyAsync(rest).AsTask().WaitAsync(Patience);
            reply.AddRange(rest);
        }

        return Encoding.ASCII.GetString([.. reply]);
    }

    private static async Task<byte[]> EchoAsync(Stream stream, byte[] bytes)
    {
        var sending = stream.WriteAsync(bytes);
        var answer = new byte[bytes.Length];
        await stream.ReadExactlyAsync(answer).AsTask().WaitAsync(Patience);
        await sending;
        return answer;
    }

    private static TlsMaterial MakeTls()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=node", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        return new TlsMaterial(certificate, [], [certificate]);
    }

    /// <summary>Keeps the ids of what was logged.</summary>
    private sealed class EventLog : ILogger
    {
        public ConcurrentQueue<int> Events { get; } = new();

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Events.Enqueue(eventId.Id);
    }

    /// <summary>Says back whatever it hears.</summary>
    private sealed class EchoPeers : IPeerAcceptor
    {
        public List<EndPoint?> Remotes { get; } = [];

        public List<bool> Certified { get; } = [];

        public TaskCompletionSource Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Exception? Failure { get; set; }

        public List<string> Refusals { get; } = [];

        public void NoteRefused(EndPoint? remote, string reason) => Refusals.Add(reason);

        public async Task ServeAsync(PeerChannel channel)
        {
            Remotes.Add(channel.Remote);
            Certified.Add(channel.IsCertified);
            if (Failure is not null)
            {
                throw Failure;
            }

            var buffer = new byte[100_000];
            try
            {
                int received;
                while ((received = await channel.ReceiveAsync(buffer, CancellationToken.None)) > 0)
                {
                    var sent = channel.TrySend(buffer.AsSpan(0, received));
                    await channel.SendAsync(buffer.AsMemory(sent, received - sent), CancellationToken.None);
                }
            }
            catch (IOException)
            {
                // Gone.
            }
            finally
            {
                channel.Close();
                _ = Ended.TrySetResult();
            }
        }
    }

    private sealed class NoSnapshots : ISnapshotStore
    {
        public EntryId Latest => default;

        public string Save(ISnapshotReader reader) =>
            throw new NotSupportedException("no snapshot is taken in these tests");
    }
}
