using KvNode.Raft.Core;
using KvNode.Raft.Identity;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>What a forced recovery found and made.</summary>
/// <param name="Last">The last entry of the log before it.</param>
/// <param name="Uncommitted">Entries that the node did not know to be committed, and that are now.</param>
public sealed record RecoveredCluster(ulong NodeId, ulong OldClusterId, ulong NewClusterId, EntryId Last, ulong Uncommitted);

/// <summary>
/// Makes a stopped node a new cluster of one with everything that is in its log. It breaks Raft's promise on purpose:
/// entries of other nodes are lost, and entries nobody agreed on are taken as agreed.
/// </summary>
public static class ClusterRecovery
{
    /// <summary>Small enough not to matter: the log is opened to append one frame.</summary>
    private const long SegmentBytes = 1 << 20;

    /// <param name="machine">The node's state machine as it is on disk; nothing is applied to it.</param>
    /// <param name="address">Where the node is reached from then on.</param>
    /// <exception cref="DirectoryNotFoundException">No node was ever started in the directory.</exception>
    /// <exception cref="InvalidDataException">The identity is damaged, or the node never had a part in a cluster.</exception>
    /// <exception cref="LogCorruptException">The log is damaged, or not this machine's.</exception>
    public static RecoveredCluster Run(
        string dataDirectory, string logDirectory, IReplicatedStateMachine machine, string address)
    {
        var identity = NodeIdentity.TryRead(dataDirectory)
            ?? throw new DirectoryNotFoundException($"no node was ever started in '{dataDirectory}'");
        var disk = FileDisk.OpenOrCreate(WalFormat.Folder(logDirectory));
        using var log = EngineStart.OpenLog(disk, new WalOptions { SegmentBytes = SegmentBytes }, machine);
        if (log.Last.Index == 0)
        {
            throw new InvalidDataException("the log is empty: this node has nothing to recover, start it without --join");
        }

        var before = (identity.ClusterId, log.Last, Uncommitted: log.Last.Index - Math.Min(log.Last.Index, log.Commit));
        ulong cluster;
        do
        {
            cluster = NodeIdentity.RandomId();
        }
        while (cluster == before.ClusterId);

        // First out of the old cluster: after a crash in between the node reaches nobody, and the recovery can be run again.
        identity.BeginAnew(cluster);
        EngineStart.BeginAlone(log, identity.NodeId, address, ChangeTransition.Reset);
        return new RecoveredCluster(identity.NodeId, before.ClusterId, cluster, before.Last, before.Uncommitted);
    }
}
