namespace KvNode.Simulation;

/// <summary>The tests, or, with options of its own, the console for long runs.</summary>
internal static class Program
{
    public static int Main(string[] arguments) =>
        SimulationConsole.Wants(arguments)
            ? SimulationConsole.Run(arguments)
            : Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(arguments).GetAwaiter().GetResult();
}
