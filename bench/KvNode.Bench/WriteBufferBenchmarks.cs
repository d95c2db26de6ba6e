using BenchmarkDotNet.Attributes;
using KvNode.Storage;

namespace KvNode.Bench;

/// <summary>The write buffer by itself: 16-byte keys, 100-byte values, one thread.</summary>
[MemoryDiagnoser]
public class WriteBufferBenchmarks
{
    private const int Operations = 100_000;

    private readonly byte[] _value = new byte[100];
    private byte[] _keys = [];
    private byte[] _fresh = [];
    private WriteBuffer _buffer = null!;

    /// <summary>Keys in the buffer when an operation is measured.</summary>
    [Params(100_000, 1_000_000)]
    public int Keys { get; set; }

    [IterationSetup]
    public void Fill()
    {
        var random = new Random(1);
        _keys = new byte[Keys * 16];
        _fresh = new byte[Operations * 16];
        random.NextBytes(_keys);
        random.NextBytes(_fresh);
        _buffer = new WriteBuffer(clearsBelow: false);
        for (var i = 0; i < Keys; i++)
        {
            Put(1, Key(_keys, i));
        }
    }

    [IterationCleanup]
    public void Release() => _buffer.Release();

    [Benchmark(OperationsPerInvoke = Operations)]
    public void PutNewKey()
    {
        for (var i = 0; i < Operations; i++)
        {
            Put(2, Key(_fresh, i));
        }
    }

    [Benchmark(OperationsPerInvoke = Operations)]
    public void Overwrite()
    {
        for (var i = 0; i < Operations; i++)
        {
            Put(2, Key(_keys, Scattered(i)));
        }
    }

    [Benchmark(OperationsPerInvoke = Operations)]
    public int GetHit() => Get(_keys, scattered: true);

    [Benchmark(OperationsPerInvoke = Operations)]
    public int GetMiss() => Get(_fresh, scattered: false);

    [Benchmark(OperationsPerInvoke = Operations)]
    public int WalkAcross()
    {
        using var cursor = _buffer.OpenCursor(1);
        var seen = cursor.SeekAtOrAfter(default) ? 1 : 0;
        while (seen < Operations && cursor.MoveNext())
        {
            seen++;
        }

        return seen;
    }

    /// <summary>A page of ten keys: open, seek, ten steps.</summary>
    [Benchmark(OperationsPerInvoke = 1000)]
    public int PageOfTen()
    {
        var seen = 0;
        for (var i = 0; i < 1000; i++)
        {
            using var cursor = _buffer.OpenCursor(1);
            var more = cursor.SeekAtOrAfter(Key(_fresh, i));
            for (var step = 0; step < 10 && more; step++)
            {
                seen++;
                more = cursor.MoveNext();
            }
        }

        return seen;
    }

    private static ReadOnlySpan<byte> Key(byte[] keys, int at) => keys.AsSpan(at * 16, 16);

    private int Scattered(int i) => (int)((uint)i * 2_654_435_761U % (uint)Keys);

    private void Put(ulong sequence, ReadOnlySpan<byte> key) =>
        _buffer.Put(sequence, key, WriteBuffer.Hash(key), default, _value);

    private int Get(byte[] keys, bool scattered)
    {
        var found = 0;
        for (var i = 0; i < Operations; i++)
        {
            var key = Key(keys, scattered ? Scattered(i) : i);
            found += (int)_buffer.TryGet(2, key, WriteBuffer.Hash(key), out _);
        }

        return found;
    }
}
