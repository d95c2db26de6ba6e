using System.Buffers;
using System.Text;
using BenchmarkDotNet.Attributes;
using KvNode.Server.Resp;

namespace KvNode.Bench;

/// <summary>
/// What the network thread pays per command for reading it and for writing its reply. Each operation is one command:
/// the input is a pipeline of 64, as one receive of a pipelining client gives it.
/// </summary>
[MemoryDiagnoser]
public class RespBenchmarks
{
    private const int Pipeline = 64;

    private readonly CommandReader _reader = new(RespLimits.Default);
    private readonly RespWriter _writer = new();
    private readonly byte[] _value = new byte[100];
    private byte[] _sets = [];
    private byte[] _gets = [];
    private ReadOnlySequence<byte> _setsWhole;
    private ReadOnlySequence<byte> _setsInBlocks;
    private ArgRange[] _scratch = new ArgRange[8];

    [GlobalSetup]
    public void Setup()
    {
        var sets = new StringBuilder();
        var gets = new StringBuilder();
        for (var i = 0; i < Pipeline; i++)
        {
            sets.Append($"*3\r\n$3\r\nSET\r\n$16\r\nkey:{i:D12}\r\n$100\r\n{new string('x', 100)}\r\n");
            gets.Append($"*2\r\n$3\r\nGET\r\n$16\r\nkey:{i:D12}\r\n");
        }

        _sets = Encoding.ASCII.GetBytes(sets.ToString());
        _gets = Encoding.ASCII.GetBytes(gets.ToString());
        _setsWhole = new ReadOnlySequence<byte>(_sets);
        _setsInBlocks = Block.Split(_sets, 4096);
    }

    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int ReadSet() => ReadAll(_sets);

    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int ReadGet() => ReadAll(_gets);

    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int ReadSetFromSequence() => ReadAll(_setsWhole);

    /// <summary>Kestrel's 4 KiB blocks: every 27th command lies across two.</summary>
    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int ReadSetInBlocks() => ReadAll(_setsInBlocks);

    /// <summary>The way a log entry is walked.</summary>
    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int ParseSetFromLog()
    {
        var rest = _sets.AsSpan();
        var sum = 0;
        while (CommandReader.TryParse(rest, ref _scratch, out var args, out var consumed))
        {
            sum += args[2].Length;
            rest = rest[consumed..];
        }

        return sum;
    }

    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int WriteOk()
    {
        _writer.Reset();
        for (var i = 0; i < Pipeline; i++)
        {
            _writer.Ok();
        }

        return _writer.Length;
    }

    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int WriteBulk()
    {
        _writer.Reset();
        for (var i = 0; i < Pipeline; i++)
        {
            _writer.Bulk(_value);
        }

        return _writer.Length;
    }

    [Benchmark(OperationsPerInvoke = Pipeline)]
    public int WriteInteger()
    {
        _writer.Reset();
        for (var i = 0; i < Pipeline; i++)
        {
            _writer.Integer(i * 1001);
        }

        return _writer.Length;
    }

    private int ReadAll(ReadOnlySpan<byte> input)
    {
        var sum = 0;
        while (_reader.TryRead(input, out var taken, out var args) == ReadStatus.Command)
        {
            sum += args[1].Length;
            input = input[taken..];
        }

        return sum;
    }

    private int ReadAll(ReadOnlySequence<byte> input)
    {
        var sum = 0;
        while (_reader.TryRead(ref input, out var args) == ReadStatus.Command)
        {
            sum += args[1].Length;
        }

        return sum;
    }

    private sealed class Block : ReadOnlySequenceSegment<byte>
    {
        private Block(ReadOnlyMemory<byte> memory, long start)
        {
            Memory = memory;
            RunningIndex = start;
        }

        public static ReadOnlySequence<byte> Split(byte[] bytes, int size)
        {
            var first = new Block(bytes.AsMemory(0, size), 0);
            var last = first;
            for (var at = size; at < bytes.Length; at += size)
            {
                var next = new Block(bytes.AsMemory(at, Math.Min(size, bytes.Length - at)), at);
                last.Next = next;
                last = next;
            }

            return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
        }
    }
}
