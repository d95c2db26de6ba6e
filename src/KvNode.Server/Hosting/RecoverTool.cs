using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Storage;

namespace KvNode.Server.Hosting;

/// <summary>
/// <c>kvnode recover --force-new-cluster</c>: makes a stopped node a cluster of its own with all the data it has. For when
/// a majority of the voters is gone for good and nothing else helps.
/// </summary>
internal static class RecoverTool
{
    /// <param name="address">Where the node is reached from then on, as HOST:PORT.</param>
    /// <returns>The process's exit code.</returns>
    /// <exception cref="DirectoryNotFoundException">There is nothing of a node there.</exception>
    /// <exception cref="DirectoryLockedException">A node, or a tool, is running on it.</exception>
    public static int Run(string dataDirectory, string logDirectory, string address, TextWriter output)
    {
        if (!Directory.Exists(dataDirectory))
        {
            throw new DirectoryNotFoundException($"there is no directory '{dataDirectory}'");
        }

        if (!WalInspector.HasLog(logDirectory))
        {
            throw new DirectoryNotFoundException($"no node keeps its log in '{logDirectory}': if it is elsewhere, say --log-dir");
        }

        using var logLock = NodeOptions.IsSameDirectory(dataDirectory, logDirectory) ? null : DirectoryLock.Acquire(logDirectory);
        using var store = Store.Open(dataDirectory, new StoreOptions
        {
            // Nothing is applied, so nothing is made durable.
            EnsureLogDurable = static _ => { },
            Fatal = static e => throw e,
        });
        using var machine = new KvStateMachine(store, new Executor(CommandTable.Default, new ServerStats()), [address]);
        var found = ClusterRecovery.Run(dataDirectory, logDirectory, machine, address);
        output.WriteLine($"node {found.NodeId:x16} was in cluster {found.OldClusterId:x16}");
        output.WriteLine($"it is now cluster {found.NewClusterId:x16}, alone, at {address}");
        output.WriteLine($"its log ends with entry {found.Last}; {found.Uncommitted} entries that it did not know to be agreed on count now");
        output.WriteLine("WARNING: writes that were acknowledged and are not in this log are lost, and writes that were refused or");
        output.WriteLine("left open may have become true. Do not start the old cluster's other nodes on their directories again:");
        output.WriteLine("empty those and let them join this node.");
        return ExitCodes.Ok;
    }
}
