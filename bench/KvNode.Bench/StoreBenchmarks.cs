using BenchmarkDotNet.Attributes;
using KvNode.Storage;

namespace KvNode.Bench;

/// <summary>The store as the state machine and the sessions use it: batches in, views and pages out.</summary>
[MemoryDiagnoser]
public class StoreBenchmarks
{
    private const int Keys = 200_000;
    private const int BatchWrites = 100;

    private readonly string _directory = Path.Combine(Path.GetTempPath(), "kvnode-bench-" + Guid.NewGuid().ToString("N"));
    private readonly byte[] _value = new byte[100];
    private readonly byte[] _key = new byte[16];
    private readonly Random _random = new(1);
    private Store _store = null!;
    private ulong _index;

    /// <summary>Where the keys that are read are: all in the buffer, or all in LMDB and the buffer empty.</summary>
    [Params(false, true)]
    public bool Flushed { get; set; }

    [GlobalSetup]
    public void Open()
    {
        _store = Store.Open(_directory, new StoreOptions
        {
            WriteBufferBytes = 1L << 30,
            FlushInterval = TimeSpan.FromHours(1),
            Fatal = static e => Environment.FailFast("the store failed", e),
        });
        for (var i = 0; i < Keys; i += BatchWrites)
        {
            var batch = _store.BeginBatch();
            for (var k = i; k < i + BatchWrites; k++)
            {
                SetKey(k);
                batch.Put(_key, _value);
            }

            _store.Publish(++_index, 1, 0);
        }

        if (Flushed)
        {
            _store.Checkpoint();
        }
    }

    [GlobalCleanup]
    public void Close()
    {
        _store.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Benchmark]
    public bool ViewAndGet()
    {
        SetKey(_random.Next(Keys));
        using var view = _store.OpenView();
        return view.TryGet(_key, out _);
    }

    [Benchmark]
    public bool ViewAndMiss()
    {
        SetKey(Keys + _random.Next(Keys));
        using var view = _store.OpenView();
        return view.TryGet(_key, out _);
    }

    [Benchmark]
    public int ViewAndPageOfTen()
    {
        SetKey(_random.Next(Keys));
        using var view = _store.OpenView();
        using var cursor = view.Scan(new KeyRange { Start = _key });
        var seen = 0;
        while (seen < 10 && cursor.MoveNext())
        {
            seen++;
        }

        return seen;
    }

    private void SetKey(int number)
    {
        BitConverter.TryWriteBytes(_key, (ulong)number * 0x9E37_79B9_7F4A_7C15);
        BitConverter.TryWriteBytes(_key.AsSpan(8), number);
    }
}

/// <summary>Applying: what one write costs in a batch, flushes in the background included.</summary>
[MemoryDiagnoser]
public class StoreApplyBenchmarks
{
    private readonly string _directory = Path.Combine(Path.GetTempPath(), "kvnode-bench-" + Guid.NewGuid().ToString("N"));
    private readonly byte[] _value = new byte[100];
    private readonly byte[] _key = new byte[16];
    private readonly Random _random = new(1);
    private Store _store = null!;
    private ulong _index;

    [Params(1, 100)]
    public int BatchWrites { get; set; }

    [GlobalSetup]
    public void Open() => _store = Store.Open(
        _directory, new StoreOptions { Fatal = static e => Environment.FailFast("the store failed", e) });

    [GlobalCleanup]
    public void Close()
    {
        _store.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Benchmark]
    public void Batch()
    {
        var batch = _store.BeginBatch();
        for (var i = 0; i < BatchWrites; i++)
        {
            BitConverter.TryWriteBytes(_key, (ulong)_random.Next(1_000_000) * 0x9E37_79B9_7F4A_7C15);
            batch.Put(_key, _value);
        }

        _store.Publish(++_index, 1, 0);
    }
}
