using System.Net;
using System.Net.Sockets;
using KvNode.Raft;
using KvNode.Raft.Engine;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Transport;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Storage;
using KvNode.Testing;

namespace KvNode.Server.Tests;

/// <summary>A node without clients: engine, store and state machine on a directory of its own, reached over loopback.</summary>
internal sealed class RigNode : IAsyncDisposable
{
    private readonly Store _store;
    private readonly KvStateMachine _machine;
    private readonly Socket _listener;
    private readonly TaskCompletionSource<Exception> _fatal = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _disposed;

    /// <param name="advertise">Where it says it is; null: where it is.</param>
    public RigNode(
        string directory, string? join = null, int port = 0, Durability durability = Durability.Low, string? advertise = null)
    {
        Directory = directory;
        _ = System.IO.Directory.CreateDirectory(directory);
        _listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, port));
        _listener.Listen();
        Port = ((IPEndPoint)_listener.LocalEndPoint!).Port;
        Address = advertise ?? $"127.0.0.1:{Port}";
        _store = Store.Open(directory, new StoreOptions
        {
            EnsureLogDurable = index => Engine!.EnsureLogDurable(index),
            Fatal = e => _fatal.TrySetResult(e),
            WriteBufferBytes = 1 << 20,
        });
        _machine = new KvStateMachine(_store, new Executor(CommandTable.Default, new ServerStats()), [Address]);
        Engine = new RaftEngine(
            new RaftOptions
            {
                LogDirectory = directory,
                DataDirectory = directory,
                Address = Address,
                Join = join,
                Durability = durability,
                LeaderWait = TimeSpan.FromSeconds(20),
                SegmentBytes = 1 << 20,
            },
            new NoSnapshots(),
            TransportSecurity.None,
            static _ => { },
            e => _fatal.TrySetResult(e));
        Engine.Noted += (_, text) => Notes.Enqueue(text);
    }

    public static TimeSpan Patience => TimeSpan.FromSeconds(60);

    public string Directory { get; }

    public int Port { get; }

    public string Address { get; }

    public RaftEngine Engine { get; }

    public System.Collections.Concurrent.ConcurrentQueue<string> Notes { get; } = new();

    public NodeStatus Status => Engine.Status;

    /// <summary>Why the engine could not go on.</summary>
    public Task<Exception> Fatal => _fatal.Task;

    public async Task<RigNode> StartAsync()
    {
        try
        {
            await Engine.StartAsync(_machine, CancellationToken.None);
        }
        catch
        {
            await DisposeAsync();
            throw;
        }

        _ = AcceptAsync();
        return this;
    }

    /// <summary>Waits until the node knows itself to be a voter among so many, or a learner.</summary>
    public Task SeesAsync(int voters, int learners = 0) => UntilAsync(
        () => Status.Members.Count(static member => member.Voter) == voters
            && Status.Members.Count(static member => !member.Voter) == learners,
        () => $"{voters} voters and {learners} learners, but {string.Join(", ", Status.Members)}");

    public async Task UntilAsync(Func<bool> condition, Func<string> otherwise)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (!condition())
        {
            if (patience.IsCancellationRequested)
            {
                throw new TimeoutException(otherwise());
            }

            await Task.Delay(5);
        }
    }

    /// <summary>Writes one key through the engine; what became of it.</summary>
    public async Task<string> SetAsync(string key)
    {
        var proposer = new Proposer(Engine, TimeProvider.System, new FailureReplies(CommandTable.Default, moved: false));
        var sink = new Sink();
        var (raw, _) = Wire.Encode(Wire.Bytes("SET"), Wire.Bytes(key), Wire.Bytes("x"));
        proposer.BeginTurn();
        proposer.AddWrite(sink, raw, isLong: false);
        proposer.EndTurn();
        return await sink.Reply.WaitAsync(Patience);
    }

    public bool Has(string key)
    {
        using var view = _store.OpenView();
        return view.TryGet(Wire.Bytes(key), out _, out _);
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            await Engine.DisposeAsync();
            _listener.Dispose();
            _machine.Dispose();
            _store.Dispose();
        }
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var channel = new Channel(await _listener.AcceptAsync());
                _ = Engine.Acceptor!.ServeAsync(channel);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The node stops.
        }
    }

    private sealed class Sink : IReplySink
    {
        private readonly TaskCompletionSource<string> _reply = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<string> Reply => _reply.Task;

        public int Protocol => 2;

        public void CutOff(string reason) => _reply.TrySetException(new IOException(reason));

        public bool Hold(int bytes) => true;

        public void Release(ReadOnlySpan<byte> replies) => throw new NotSupportedException("no reply here is that long");

        public void Deliver(ReadOnlySpan<byte> replies, int operations) => _reply.TrySetResult(Wire.Text(replies));
    }

    private sealed class NoSnapshots : ISnapshotStore
    {
        public EntryId Latest => default;

        public string Save(ISnapshotReader reader) => throw new NotSupportedException();
    }

    private sealed class Channel(Socket socket) : PeerChannel
    {
        public override EndPoint? Remote { get; } = socket.RemoteEndPoint;

        public override bool IsCertified => false;

        public override int TrySend(ReadOnlySpan<byte> bytes) => 0;

        public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
        {
            try
            {
                while (!bytes.IsEmpty)
                {
                    bytes = bytes[await socket.SendAsync(bytes, SocketFlags.None, cancellation)..];
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                throw new IOException(e.Message, e);
            }
        }

        public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
        {
            try
            {
                return await socket.ReceiveAsync(buffer, SocketFlags.None, cancellation);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                throw new IOException(e.Message, e);
            }
        }

        public override void Close() => socket.Dispose();
    }
}

/// <summary>Nodes that go with the test.</summary>
internal sealed class ClusterRig : IAsyncDisposable
{
    private readonly TempDirectory _directory = new("cluster");
    private readonly List<RigNode> _nodes = [];

    /// <summary>Of the nodes started from now on.</summary>
    public Durability Durability { get; set; } = Durability.Low;

    public string Path(string name) => _directory.Sub(name);

    public Task<RigNode> StartAsync(string name, string? join = null, int port = 0, string? advertise = null)
    {
        var node = new RigNode(Path(name), join, port, Durability, advertise);
        _nodes.Add(node);
        return node.StartAsync();
    }

    /// <summary>Three voters, the first of them leading.</summary>
    public async Task<(RigNode A, RigNode B, RigNode C)> StartThreeAsync()
    {
        var a = await StartAsync("a");
        var b = await StartAsync("b", join: a.Address);
        var c = await StartAsync("c", join: a.Address);
        foreach (var node in (RigNode[])[a, b, c])
        {
            await node.SeesAsync(voters: 3);
        }

        return (a, b, c);
    }

    public async ValueTask DisposeAsync()
    {
        for (var i = _nodes.Count - 1; i >= 0; i--)
        {
            await _nodes[i].DisposeAsync();
        }

        _directory.Dispose();
    }
}
