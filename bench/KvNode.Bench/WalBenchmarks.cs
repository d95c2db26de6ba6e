using BenchmarkDotNet.Attributes;
using KvNode.Raft;
using KvNode.Raft.Wal;

namespace KvNode.Bench;

/// <summary>The log by itself: building a frame, writing it, syncing it, reading it back.</summary>
[MemoryDiagnoser]
public class WalBenchmarks
{
    private const int ReplayEntries = 10_000;

    private string _directory = "";
    private WriteAheadLog? _log;
    private WriteAheadLog? _replayLog;
    private WalRecord[] _records = [];
    private byte[] _payload = [];
    private byte[] _frame = [];
    private FrameLayout _layout;

    /// <summary>Payload of the frame's one entry: a SET alone, a pipeline's worth, a full frame.</summary>
    [Params(150, 8 * 1024, 1024 * 1024)]
    public int Bytes { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _directory = Directory.CreateTempSubdirectory("kvnode-bench-").FullName;
        _payload = new byte[Bytes];
        new Random(1).NextBytes(_payload);
        _records = [default];
        Next(0);
        _layout = FrameLayout.For((int)FrameEncoder.PayloadBytes(_records));
        _frame = new byte[_layout.Bytes];
        _log = Open("append");

        using (var log = Open("replay"))
        {
            for (var i = 0; i < Math.Min(ReplayEntries, (256 << 20) / Bytes); i++)
            {
                Next(log.Last.Index);
                log.Append(_records);
            }

            log.Sync();
        }

        _replayLog = Open("replay");
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _log?.Dispose();
        _replayLog?.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    /// <summary>Copying the payload in, checksums, header.</summary>
    [Benchmark]
    public uint EncodeFrame() => FrameEncoder.Encode(
        new FrameHeader(1, 1, 1, 0, 0, 0, (int)FrameEncoder.PayloadBytes(_records), 1, 0, 1),
        _layout,
        _records,
        _frame);

    /// <summary>The same and one pwrite; segments roll and are used again.</summary>
    [Benchmark]
    public void Append()
    {
        Next(_log!.Last.Index);
        _log.Append(_records);
        if (_log.ActiveSegment > 2)
        {
            _ = _log.Retire(_log.Last.Index);
        }
    }

    /// <summary>A whole commit: what one acknowledgement at --durability high costs.</summary>
    [Benchmark]
    public void AppendAndSync()
    {
        Append();
        _log!.Sync();
    }

    /// <summary>Reading 10,000 entries (or 256 MiB) back, as a restart does.</summary>
    [Benchmark]
    public long Replay()
    {
        var bytes = 0L;
        _replayLog!.Replay(default, entries =>
        {
            foreach (ref readonly var entry in entries)
            {
                bytes += entry.Payload.Length;
            }
        });
        return bytes;
    }

    private WriteAheadLog Open(string name) =>
        WriteAheadLog.Open(FileDisk.OpenOrCreate(Path.Combine(_directory, name)), new WalOptions(), newLogId: 1);

    private void Next(ulong last) =>
        _records[0] = WalRecord.Entry(new EntryId(1, last + 1), EntryKind.Normal, _payload);
}
