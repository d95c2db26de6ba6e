using System.Diagnostics;
using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Server.Commands;
using KvNode.Server.Sessions;
using KvNode.Storage;

namespace KvNode.Server.Hosting;

/// <summary>What admin commands see of the node: engine, store, clients and settings behind one small port.</summary>
internal sealed class NodeControl(
    IConsensusEngine engine,
    Store store,
    ClientList clients,
    ServerStats stats,
    SnapshotFolder snapshots,
    IReadOnlyList<KeyValuePair<string, string>> settings,
    Action shutdown) : INodeControl
{
    private readonly long _startedAt = Stopwatch.GetTimestamp();

    public NodeStatus Status => engine.Status;

    public EngineMetrics Metrics => engine.Metrics;

    public long UptimeMs => (long)Stopwatch.GetElapsedTime(_startedAt).TotalMilliseconds;

    public StoreStatus StoreStatus => store.Status;

    public ServerStats Stats => stats;

    public IReadOnlyCollection<ClientInfo> Clients => clients.Infos;

    public IReadOnlyList<KeyValuePair<string, string>> Settings => settings;

    public KeyspaceView OpenView() => store.OpenView();

    public ValueTask<AdminOutcome> SnapshotAsync() => engine.SnapshotNowAsync();

    public ValueTask<AdminOutcome> ShrinkLogAsync() => engine.ShrinkLogAsync();

    public IReadOnlyList<SnapshotInfo> Snapshots => snapshots.List();

    public ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change) => engine.ChangeMembershipAsync(change);

    public ValueTask<AdminOutcome> ReplaceMemberAsync(string member, string address) =>
        engine.ReplaceMemberAsync(member, address);

    public ValueTask<AdminOutcome> TransferLeadershipAsync(string? target) => engine.TransferLeadershipAsync(target);

    public void RequestShutdown() => shutdown();
}
