using KvNode.Raft.Core;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>Reads what left memory back from the log on disk, on a thread of its own while there is something to read.</summary>
internal sealed class LogFetcher(WriteAheadLog log, Mailbox mailbox, Action<Exception> fail) : IEntryFetcher
{
    private readonly Lock _gate = new();
    private readonly Queue<FetchRequest> _requests = new();
    private bool _running;

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
                mailbox.Post(new Event { Kind = EventKind.Fetched, A = request.Peer, State = entries });
            }
        }
        catch (Exception e)
        {
            fail(e);
        }
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
