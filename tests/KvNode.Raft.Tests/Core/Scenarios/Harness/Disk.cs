using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>What of one node is durable: written in order, one request at a time.</summary>
internal sealed class Disk
{
    private readonly Queue<PersistRequest> _unwritten = new();

    public HardState HardState { get; private set; }

    public ulong Commit { get; private set; }

    public EntryId BeforeFirst { get; private set; }

    public List<LogEntry> Log { get; } = [];

    /// <summary>Requests handed out and not completed, oldest first.</summary>
    public IReadOnlyCollection<PersistRequest> Unwritten => _unwritten;

    public ulong LastIndex => BeforeFirst.Index + (ulong)Log.Count;

    /// <summary>Of the last completed request.</summary>
    public ulong Sequence { get; private set; }

    public void Format(Setup setup)
    {
        HardState = new HardState(setup.Term, setup.Vote);
        Commit = setup.Commit;
        BeforeFirst = setup.BeforeFirst;
        Log.AddRange(setup.Entries());
    }

    public void Hand(in PersistRequest request) =>
        _unwritten.Enqueue(request with { Entries = request.Entries.ToArray() });

    /// <summary>Makes the oldest request durable.</summary>
    public PersistRequest WriteOne()
    {
        var request = _unwritten.Dequeue();
        Assert.Equal(Sequence + 1, request.Sequence);
        Sequence = request.Sequence;
        HardState = request.HardState ?? HardState;
        Commit = request.Commit;
        if (request.Snapshot is { } snapshot)
        {
            BeforeFirst = snapshot;
            Log.Clear();
        }

        if (request.TruncateFrom != 0)
        {
            TruncateFrom(request.TruncateFrom);
        }

        foreach (var entry in request.Entries.Span)
        {
            Assert.Equal(LastIndex + 1, entry.Id.Index);
            Log.Add(entry);
        }

        return request;
    }

    /// <summary>Everything handed over so far, by one sync.</summary>
    public void WriteAll()
    {
        while (_unwritten.Count > 0)
        {
            _ = WriteOne();
        }
    }

    /// <summary>The process ended: what was not written is lost.</summary>
    public void Crash()
    {
        _unwritten.Clear();
        Sequence = 0;
    }

    public bool Has(EntryId id)
    {
        if (id.Index <= BeforeFirst.Index)
        {
            return true;
        }

        return id.Index <= LastIndex && At(id.Index).Id == id;
    }

    public LogEntry At(ulong index) => Log[(int)(index - BeforeFirst.Index - 1)];

    public LogEntry[] Range(ulong first, int bytesMax)
    {
        var entries = new List<LogEntry>();
        long bytes = 0;
        for (var index = Math.Max(first, BeforeFirst.Index + 1); index <= LastIndex; index++)
        {
            bytes += At(index).Size;
            if (entries.Count > 0 && bytes > bytesMax)
            {
                break;
            }

            entries.Add(At(index));
        }

        return [.. entries];
    }

    public EntryId IdAt(ulong index) => index == BeforeFirst.Index ? BeforeFirst : At(index).Id;

    public void CompactThrough(ulong index)
    {
        var id = IdAt(index);
        Log.RemoveRange(0, (int)(index - BeforeFirst.Index));
        BeforeFirst = id;
    }

    private void TruncateFrom(ulong index)
    {
        Assert.True(index > BeforeFirst.Index, "a truncation below the log's start");
        Assert.True(index <= LastIndex + 1, "a truncation after the log's end");
        Log.RemoveRange((int)(index - BeforeFirst.Index - 1), (int)(LastIndex - index + 1));
    }
}
