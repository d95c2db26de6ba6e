using System.Diagnostics;
using KvNode.Raft.Core;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>
/// Reads what left memory back from the log on disk, on a thread of its own while there is something to read; not faster than
/// a follower that is far behind needs to come near, for it takes processors and disks from those that are up to date.
/// </summary>
internal sealed class LogFetcher(WriteAheadLog log, Mailbox mailbox, Action<Exception> fail) : IEntryFetcher
{
    private const double BytesPerSecondMin = 16 << 20;

    // Twice as fast as the log grows, a follower gains on it whatever the load.
    private const double TimesGrowth = 2;

    private static readonly TimeSpan GrowthWindow = TimeSpan.FromMilliseconds(500);

    private readonly Lock _gate = new();
    private readonly Queue<FetchRequest> _requests = new();
    private bool _running;
    private long _measuredAt = Stopwatch.GetTimestamp();
    private long _measuredBytes;
    private double _growth;

    public void Fetch(in FetchRequest request)
    {
        lock (_gate)
        {
            _requests.Enqueue(request);
            if (_running)
            {
                return;
            }

            _running = true;
        }

        new Thread(Run) { Name = "log-read", IsBackground = true }.Start();
    }

    private void Run()
    {
        try
        {
            while (TryTake(out var request))
            {
                var entries = log.ReadEntries(request.FirstIndex, ulong.MaxValue, request.BytesMax);
                Thread.Sleep(PauseFor(entries));
                mailbox.Post(new Event { Kind = EventKind.Fetched, A = request.Peer, State = entries.ToArray() });
            }
        }
        catch (Exception e)
        {
            fail(e);
        }
    }

    private TimeSpan PauseFor(List<LogEntry> entries)
    {
        var bytes = 0L;
        foreach (var entry in entries)
        {
            bytes += entry.Size;
        }

        var elapsed = Stopwatch.GetElapsedTime(_measuredAt);
        if (elapsed > GrowthWindow)
        {
            var written = log.Metrics.BytesWritten;
            _growth = (written - _measuredBytes) / elapsed.TotalSeconds;
            (_measuredAt, _measuredBytes) = (Stopwatch.GetTimestamp(), written);
        }

        return TimeSpan.FromSeconds(bytes / Math.Max(BytesPerSecondMin, TimesGrowth * _growth));
    }

    private bool TryTake(out FetchRequest request)
    {
        lock (_gate)
        {
            _running = _requests.TryDequeue(out request);
            return _running;
        }
    }
}
