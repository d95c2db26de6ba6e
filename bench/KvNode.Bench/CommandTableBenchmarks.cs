using BenchmarkDotNet.Attributes;
using KvNode.Server.Commands;

namespace KvNode.Bench;

/// <summary>From a command's name to its row.</summary>
[MemoryDiagnoser]
public class CommandTableBenchmarks
{
    private readonly CommandTable _table = CommandTable.Default;

    [Benchmark]
    public bool UpperCase() => _table.TryFind("SET"u8, out _);

    [Benchmark]
    public bool LowerCase() => _table.TryFind("get"u8, out _);

    [Benchmark]
    public bool Subcommand() => _table.TryFindFull("config|get"u8, out _);

    [Benchmark]
    public bool Unknown() => _table.TryFind("notacommand"u8, out _);
}
