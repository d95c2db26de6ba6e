using KvNode.Raft.Core;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>
/// A log on a simulated disk next to a model of what it must contain, and the checks that compare them after a crash.
/// </summary>
internal sealed class WalRig(SimDisk disk, WalOptions options)
{
    private readonly List<WalRecord[]> _frames = [];
    private LogModel _model = new();
    private int _synced;
    private ulong _retired;

    public static WalOptions SmallSegments { get; } = new()
    {
        SegmentBytes = 16 * 512,
        SegmentBytesMin = 4 * 512,
        Background = false,
    };

    public SimDisk Disk { get; private set; } = disk;

    public WriteAheadLog? Log { get; private set; }

    public LogModel Model => _model;

    public EntryId Last => _model.Last;

    public HardState State => _model.State;

    public int FramesWritten => _frames.Count;

    public void Open()
    {
        Log = WriteAheadLog.Open(Disk, options, newLogId: 0x1122_3344_5566_7788);
        CheckRecovered();
    }

    /// <summary>Appends a frame. On DiskFullException it must never be seen again; on any other it may.</summary>
    public void Append(params WalRecord[] records)
    {
        _frames.Add(records);
        try
        {
            Log!.Append(records);
        }
        catch (DiskFullException)
        {
            _frames.RemoveAt(_frames.Count - 1);
            throw;
        }

        foreach (ref readonly var record in records.AsSpan())
        {
            _model.Apply(record);
        }

        Assert.Equal((Last, State, _model.Commit), (Log.Last, Log.HardState, Log.Commit));
    }

    /// <summary>One entry in the present term.</summary>
    public void AppendEntry(byte[] payload) =>
        Append(WalRecord.Entry(new EntryId(Math.Max(Last.Term, 1), Last.Index + 1), EntryKind.Normal, payload));

    public void Sync()
    {
        Log!.Sync();
        _synced = _frames.Count;
        Assert.Equal(Last.Index, Log.DurableIndex);
    }

    public void Retire(ulong index)
    {
        _retired = Math.Max(_retired, index);
        _ = Log!.Retire(index);
    }

    /// <summary>Goes on with another disk: the one after a crash.</summary>
    public void Restart(SimDisk disk)
    {
        Close();
        Disk = disk;
    }

    public void Close()
    {
        Log?.Dispose();
        Log = null;
    }

    /// <summary>A turn of random work: frames of all shapes, syncs, retirements.</summary>
    public void RunRandomly(Random random, int steps, bool syncAlways)
    {
        for (var i = 0; i < steps; i++)
        {
            Append(RandomRecords(random));
            if (syncAlways || random.Next(4) == 0)
            {
                Sync();
            }

            if (random.Next(6) == 0 && Last.Index > 0)
            {
                Retire((ulong)random.NextInt64((long)Last.Index + 1));
            }
        }
    }

    /// <summary>
    /// Bytes that are awkward: zeros, single bits, things that look like frames, noise; rarely large.
    /// </summary>
    public static byte[] RandomPayload(Random random)
    {
        var size = random.Next(8) switch
        {
            0 => 0,
            < 5 => random.Next(200),
            < 7 => random.Next(3000),
            _ => random.Next(20_000),
        };
        var payload = new byte[size];
        switch (random.Next(4))
        {
            case 0:
                break;
            case 1:
                for (var i = random.Next(512); i < size; i += 512)
                {
                    payload[i] = (byte)(1 << random.Next(8));
                }

                break;
            case 2:
                for (var i = 0; i + 4 <= size; i += 512)
                {
                    "KVFR"u8.CopyTo(payload.AsSpan(i));
                }

                break;
            default:
                random.NextBytes(payload);
                break;
        }

        return payload;
    }

    /// <summary>Reads a random range back and compares it.</summary>
    public void CheckRead(Random random)
    {
        var first = (ulong)random.NextInt64((long)Log!.FirstIndex, (long)Last.Index + 2);
        var last = first + (ulong)random.Next(8);
        var bytesMax = random.Next(3) == 0 ? random.Next(5000) : long.MaxValue;
        var expected = _model.Between(first - 1, last);
        var found = Log.ReadEntries(first, last, bytesMax);
        CheckSame(expected.Take(found.Count), found);
        var bytes = found.Sum(entry => (long)entry.Size);
        Assert.True(found.Count <= 1 || bytes <= bytesMax);
        Assert.True(
            found.Count == expected.Count
            || (found.Count > 0 && bytes + expected[found.Count].Payload.Length + LogEntry.OverheadBytes > bytesMax));
    }

    /// <summary>What the log says of itself while it is open is what an inspection of its files finds.</summary>
    public void CheckInspection()
    {
        var image = WalRecovery.Inspect(Disk);
        Assert.Equal(Log!.FirstIndex, image.FirstIndex);
        Assert.Equal(Log.BeforeFirst, image.BeforeFirst);
        Assert.Equal(Log.CopyTermRuns(), image.TermRuns);
        CheckImage(image);
    }

    private WalRecord[] RandomRecords(Random random)
    {
        var records = new List<WalRecord>();
        var (last, commit, floor) = (Last.Index, _model.Commit, Log!.FirstIndex - 1);
        var term = Math.Max(Math.Max(Last.Term, State.Term), 1);
        for (var parts = random.Next(1, 4); parts > 0; parts--)
        {
            switch (random.Next(24))
            {
                case < 3:
                    term += (ulong)random.Next(3);
                    records.Add(WalRecord.Of(new HardState(term, (ulong)random.Next(3))));
                    break;
                case < 7:
                    floor = Math.Max(floor, commit);
                    last = (ulong)random.NextInt64((long)Math.Max(floor, last - Math.Min(last, 12)), (long)last + 1);
                    records.Add(WalRecord.Truncate(last + 1));
                    break;
                case < 8:
                    last = commit = floor = commit + (ulong)random.Next(20);
                    records.Add(WalRecord.SnapshotMarker(new EntryId(term, last)));
                    break;
                case < 12:
                    commit = (ulong)random.NextInt64((long)commit, (long)last + 1);
                    records.Add(WalRecord.Commit(commit));
                    break;
                default:
                    for (var count = random.Next(1, 4); count > 0; count--)
                    {
                        var kind = random.Next(10) == 0 ? EntryKind.Empty : EntryKind.Normal;
                        var payload = kind == EntryKind.Empty ? [] : RandomPayload(random);
                        records.Add(WalRecord.Entry(new EntryId(term, ++last), kind, payload));
                    }

                    break;
            }
        }

        return [.. records];
    }

    /// <summary>
    /// The log on disk is the model's up to some whole frame that is not before the last synced one. From here on the
    /// model is that.
    /// </summary>
    private void CheckRecovered()
    {
        var image = Log!.Image;
        var recovered = (int)image.NextSequence - 1;
        Assert.InRange(recovered, _synced, _frames.Count);
        _frames.RemoveRange(recovered, _frames.Count - recovered);
        _synced = recovered;
        _model = new LogModel();
        foreach (var frame in _frames)
        {
            foreach (ref readonly var record in frame.AsSpan())
            {
                _model.Apply(record);
            }
        }

        Assert.Equal((Last, State, _model.Commit), (Log.Last, Log.HardState, Log.Commit));
        Assert.Equal(image.FirstIndex, Log.FirstIndex);
        CheckImage(image);
        var tail = (image.FirstIndex + Last.Index + 1) / 2;
        CheckSame(_model.Between(tail - 1, ulong.MaxValue), Log.LoadTail(tail));
    }

    private void CheckImage(WalImage image)
    {
        Assert.Equal((Last, State, _model.Commit), (image.Last, image.HardState, image.Commit));
        var before = image.BeforeFirst;
        Assert.InRange(before.Index, _model.BeforeFirst.Index, Math.Max(_model.BeforeFirst.Index, _retired));
        Assert.Equal(_model.TermOf(before.Index), before.Term);
        Assert.Equal(_model.TermRuns(before.Index), image.TermRuns);
        CheckReplay(image, before.Index, ulong.MaxValue);
        CheckReplay(image, (before.Index + image.Last.Index) / 2, ulong.MaxValue);
        CheckReplay(image, before.Index, (before.Index + image.Last.Index) / 2);
    }

    private void CheckReplay(WalImage image, ulong after, ulong through)
    {
        var found = new List<LogEntry>();
        WalReplay.Run(Disk, image.LogId, image.Map, after, through, entries =>
        {
            foreach (ref readonly var entry in entries)
            {
                found.Add(new LogEntry(entry.Id, entry.Kind, entry.Payload.ToArray()));
            }
        });
        CheckSame(_model.Between(after, through), found);
    }

    private static void CheckSame(IEnumerable<WalRecord> expected, List<LogEntry> found)
    {
        var at = 0;
        foreach (var entry in expected)
        {
            Assert.True(at < found.Count);
            Assert.Equal((entry.Id, entry.EntryKind), (found[at].Id, found[at].Kind));
            Assert.True(entry.Payload.Span.SequenceEqual(found[at].Payload.Span));
            at++;
        }

        Assert.Equal(at, found.Count);
    }
}
