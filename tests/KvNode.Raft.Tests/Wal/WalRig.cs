using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>
/// A log on a simulated disk next to a model of what it must contain, and the checks that compare them after a crash.
/// </summary>
internal sealed class WalRig(SimDisk disk, WalOptions options)
{
    private sealed record Frame(
        EntryId Last, HardState State, List<(EntryId Id, EntryKind Kind, byte[] Payload)> Entries);

    private readonly List<Frame> _frames = [];
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

    public EntryId Last => _frames.Count == 0 ? default : _frames[^1].Last;

    public HardState State => _frames.Count == 0 ? default : _frames[^1].State;

    public int FramesWritten => _frames.Count;

    public void Open()
    {
        Log = WriteAheadLog.Open(Disk, options, newLogId: 0x1122_3344_5566_7788);
        CheckRecovered();
    }

    /// <summary>Appends a frame. On DiskFullException it must never be seen again; on any other it may.</summary>
    public void Append(params WalRecord[] records)
    {
        var entries = new List<(EntryId, EntryKind, byte[])>();
        var (last, state) = (Last, State);
        foreach (var record in records)
        {
            if (record.Kind == RecordKind.HardState)
            {
                state = new HardState(record.Id.Term, record.Id.Index);
            }
            else
            {
                last = record.Id;
                entries.Add((record.Id, record.EntryKind, record.Payload.ToArray()));
            }
        }

        _frames.Add(new Frame(last, state, entries));
        try
        {
            Log!.Append(records);
        }
        catch (DiskFullException)
        {
            _frames.RemoveAt(_frames.Count - 1);
            throw;
        }
    }

    /// <summary>One entry in the present term.</summary>
    public void AppendEntry(byte[] payload) =>
        Append(WalRecord.Entry(new EntryId(Math.Max(Last.Term, 1), Last.Index + 1), EntryKind.Normal, payload));

    public void Sync()
    {
        Log!.Sync();
        _synced = _frames.Count;
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

    private WalRecord[] RandomRecords(Random random)
    {
        var records = new List<WalRecord>();
        var term = Math.Max(Math.Max(Last.Term, State.Term), 1);
        if (random.Next(5) == 0)
        {
            term += (ulong)random.Next(3);
            records.Add(WalRecord.Of(new HardState(term, (ulong)random.Next(3))));
        }

        var count = random.Next(records.Count == 0 ? 1 : 0, 4);
        for (var i = 0; i < count; i++)
        {
            var kind = random.Next(10) == 0 ? EntryKind.Empty : EntryKind.Normal;
            var payload = kind == EntryKind.Empty ? [] : RandomPayload(random);
            records.Add(WalRecord.Entry(new EntryId(term, Last.Index + 1 + (ulong)i), kind, payload));
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

        Assert.Equal(Last, image.Last);
        Assert.Equal(State, image.HardState);
        Assert.InRange(image.FirstIndex, 1UL, _retired + 1);
        CheckReplay(image.FirstIndex - 1);
        CheckReplay((image.FirstIndex + image.Last.Index) / 2);
    }

    private void CheckReplay(ulong after)
    {
        using var expected = _frames.SelectMany(frame => frame.Entries)
            .Where(entry => entry.Id.Index > after)
            .GetEnumerator();
        WalReplay.Run(Disk, Log!.Image, after, entries =>
        {
            foreach (ref readonly var entry in entries)
            {
                Assert.True(expected.MoveNext());
                Assert.Equal(expected.Current.Id, entry.Id);
                Assert.Equal(expected.Current.Kind, entry.Kind);
                Assert.True(expected.Current.Payload.AsSpan().SequenceEqual(entry.Payload.Span));
            }
        });
        Assert.False(expected.MoveNext());
    }
}
