using System.Diagnostics;
using KvNode.Raft;
using KvNode.Raft.Snapshots;

namespace KvNode.Server.Hosting;

/// <summary>The node's snapshot directory, as the engine asks for it; says in the log what became of each snapshot.</summary>
internal sealed class SnapshotFolder : ISnapshotStore
{
    private readonly SnapshotDirectory _directory;
    private readonly ILogger _log;

    public SnapshotFolder(NodeOptions options, ILogger log)
    {
        _directory = new SnapshotDirectory(Root(options.LogDirectory), options.SnapshotsKeep);
        _log = log;
        Latest = _directory.List() is [var newest, ..] ? newest.Position : default;
    }

    /// <summary>Where a node with this log directory keeps its snapshots.</summary>
    public static string Root(string logDirectory) => Path.Combine(logDirectory, "snapshots");

    public EntryId Latest { get; private set; }

    public string Save(ISnapshotReader reader)
    {
        if (_directory.List() is [var newest, ..] && newest.Position == reader.Meta.Position)
        {
            // The same state again would only push an older backup out.
            return newest.Id;
        }

        var began = Stopwatch.GetTimestamp();
        try
        {
            var info = _directory.Save(reader);
            Latest = info.Position;
            Log.SnapshotWritten(_log, info.Id, (long)Stopwatch.GetElapsedTime(began).TotalMilliseconds);
            return info.Id;
        }
        catch (IOException e)
        {
            Log.SnapshotFailed(_log, e.Message);
            throw;
        }
    }
}
