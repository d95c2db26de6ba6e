using System.Diagnostics;
using KvNode.Raft.Engine;
using KvNode.Raft.Transport;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Server.Resp;
using KvNode.Server.Sessions;
using KvNode.Storage;

namespace KvNode.Server.Hosting;

/// <summary>
/// The composition root: opens the store, recovers the log, listens; and takes all down in the opposite order.
/// </summary>
internal sealed class Node : IAsyncDisposable
{
    private readonly NodeOptions _options;
    private readonly ILogger _log;
    private readonly ServerStats _stats = new();
    private readonly ClientList _clients;
    private readonly TransportSecurity _security;
    private readonly DirectoryLock? _logLock;
    private readonly Store _store;
    private readonly Executor _executor;
    private readonly KvStateMachine _machine;
    private readonly SnapshotFolder _snapshots;
    private readonly RaftEngine _engine;
    private readonly Timer _watch;
    private Listener? _listener;
    private string? _refusal;
    private long _rejectedLogged;

    private Node(NodeOptions options, TransportSecurity security, ILogger log)
    {
        _options = options;
        _log = log;
        _security = security;
        _clients = new ClientList(_stats, TimeSpan.FromSeconds(options.IdleSeconds));
        var fatal = new FatalExit();
        _logLock = NodeOptions.IsSameDirectory(options.LogDirectory, options.DataDirectory) ? null : DirectoryLock.Acquire(options.LogDirectory);
        _store = Store.Open(options.DataDirectory, new StoreOptions
        {
            WriteBufferBytes = options.WriteBufferBytes,
            EnsureLogDurable = index => _engine!.EnsureLogDurable(index),
            Fatal = e => _engine!.Fail(e),
        });
        _executor = new Executor(CommandTable.Default, _stats);
        _machine = new KvStateMachine(_store, _executor, [options.Advertise]);
        _snapshots = new SnapshotFolder(options, log);
        _engine = new RaftEngine(
            new RaftOptions
            {
                LogDirectory = options.LogDirectory,
                DataDirectory = options.DataDirectory,
                Address = options.Advertise,
                Join = options.Join,
                Durability = options.Durability,
                Follower = options.Follower switch
                {
                    FollowerReply.Try => FollowerMode.Refuse,
                    FollowerReply.Moved => FollowerMode.Redirect,
                    _ => FollowerMode.Forward,
                },
                LeaderWait = TimeSpan.FromMilliseconds(options.LeaderWaitMs),
                ElectionTimeout = TimeSpan.FromMilliseconds(options.ElectionMs),
                SegmentBytes = options.WalSegmentBytes,
                LogBytesMax = options.LogKeepBytes,
            },
            _snapshots,
            _security,
            PeerLog.To(log),
            fatal.End);
        _engine.Noted += (isWarning, text) => Log.Membership(log, isWarning ? LogLevel.Warning : LogLevel.Information, text);
        _engine.LeaderChanged += change => Log.Leader(
            log, change.Term, change.IsSelf ? "this node" : change.LeaderAddress ?? "not known");
        _watch = new Timer(_ => Watch(), state: null, Timeout.Infinite, Timeout.Infinite);
    }

    /// <param name="requestStop">Asks the owner to dispose the node; for SHUTDOWN.</param>
    public static async Task<Node> StartAsync(NodeOptions options, ILogger log, Action requestStop)
    {
        // First: a file that is missing is a wrong setting, and nothing has been touched yet.
        var security = options.Security.Load();
        Log.Starting(log, CommandLine.VersionText, Environment.ProcessId);
        if (security.Tls?.DateFault(DateTimeOffset.UtcNow) is { } fault)
        {
            Log.OwnCertificate(log, fault);
        }

        Log.Directories(log, Path.GetFullPath(options.DataDirectory), Path.GetFullPath(options.LogDirectory));
        await Listener.CheckFreeAsync(options.Listen);
        options.CreateDirectories();
        var node = new Node(options, security, log);
        try
        {
            await node.RecoverAsync();
            await node.ListenAsync(requestStop);
            return node;
        }
        catch
        {
            await node.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _watch.DisposeAsync();
        await _engine.HandOverAsync();
        if (_listener is not null)
        {
            await _listener.StopAsync();
        }

        await _engine.DisposeAsync();
        _machine.Dispose();
        _store.Dispose();
        _logLock?.Dispose();
        _security.Tls?.Dispose();
    }

    private async Task RecoverAsync()
    {
        var began = Stopwatch.GetTimestamp();
        var durable = _store.DurableIndex;
        await _engine.StartAsync(_machine, CancellationToken.None);
        if (_engine.TornTail is { } torn)
        {
            Log.TornTail(_log, torn);
        }

        var store = _store.Status;
        Log.Recovered(
            _log,
            store.Keys,
            store.AppliedIndex,
            store.AppliedTerm,
            store.AppliedIndex - durable,
            (long)Stopwatch.GetElapsedTime(began).TotalMilliseconds);
        Log.Promises(
            _log, NodeSettings.Name(_options.Durability), NodeSettings.Meaning(_options.Durability),
            NodeSettings.Name(_options.Consistency));
    }

    private async Task ListenAsync(Action requestStop)
    {
        var allowed = OpenFiles.ClientsAllowed(_options.MaxClients, OpenFiles.Max());
        if (allowed < _options.MaxClients)
        {
            Log.ClientsLowered(_log, allowed, _options.MaxClients, OpenFiles.Max());
        }

        var proposer = new Proposer(
            _engine,
            TimeProvider.System,
            new FailureReplies(CommandTable.Default, moved: _options.Follower == FollowerReply.Moved));
        proposer.ObserveLeaderTime(_store.ClockMs);
        var services = new SessionServices(
            CommandTable.Default,
            _store,
            _engine,
            proposer,
            _executor,
            new NodeControl(_engine, _store, _clients, _stats, _snapshots, NodeSettings.Of(_options), requestStop),
            _stats,
            new RespLimits { ValueBytesMax = _options.MaxValueBytes, CommandBytesMax = _options.QueryBufferBytes },
            new SessionSettings(
                _options.OutputBufferBytes,
                _options.Consistency,
                allowed,
                TimeSpan.FromSeconds(_options.KeepAliveSeconds)));
        _listener = await Listener.StartAsync(
            _options.Listen,
            new RespConnection(services, _clients, _log, _engine.Acceptor),
            _clients,
            allowed,
            _security.Tls is { } tls ? new TlsConnections(tls, _log, _engine.Acceptor) : null);

        Log.Listening(_log, _listener.Address);
        _ = _watch.Change(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
    }

    // Once a second: clients that are idle or stuck, those turned away, and whether writes are being refused.
    private void Watch()
    {
        _clients.Sweep();
        var rejected = Interlocked.Read(ref _stats.ConnectionsRejected);
        if (rejected > _rejectedLogged)
        {
            Log.ConnectionsRefused(_log, rejected - _rejectedLogged, _clients.Count);
            _rejectedLogged = rejected;
        }

        var refusal = _engine.Status.WriteRefusal;
        if (refusal == _refusal)
        {
            return;
        }

        _refusal = refusal;
        if (refusal is null)
        {
            Log.WritesResumed(_log);
        }
        else
        {
            Log.WritesRefused(_log, refusal);
        }
    }
}
