namespace KvNode.Server.Hosting;

/// <summary>Does what the arguments ask for and turns every ending into an exit code.</summary>
internal static class Application
{
    public static async Task<int> RunAsync(string[] arguments)
    {
        try
        {
            return await RunAsync(new CommandLine(Environment.GetEnvironmentVariable).Parse(arguments));
        }
        catch (Exception failure) when (Failure.Of(failure) is { } known)
        {
            await Console.Error.WriteLineAsync($"kvnode: {known.Message}");
            return known.ExitCode;
        }
    }

    private static async Task<int> RunAsync(Invocation invocation)
    {
        switch (invocation)
        {
            case Invocation.RunNode run:
                return await KvNodeHost.RunAsync(run.Options);
            case Invocation.ParseSnapshot parse:
                using (var input = Console.OpenStandardInput())
                using (var output = Console.OpenStandardOutput())
                {
                    return ParseSnapshot.RunFile(parse.File, input, output, Console.Error, parse.Dialect);
                }

            case Invocation.Check check:
                return CheckTool.Run(check.DataDirectory, check.LogDirectory, Console.Out);
            case Invocation.Recover recover:
                return RecoverTool.Run(recover.DataDirectory, recover.LogDirectory, recover.Advertise, Console.Out);
            case Invocation.Say say:
                await Console.Out.WriteAsync(say.Text);
                return ExitCodes.Ok;
            case Invocation.Refuse refuse:
                await Console.Error.WriteLineAsync($"kvnode: {refuse.Reason}\nTry 'kvnode --help'.");
                return ExitCodes.Usage;
            default:
                throw new InvalidOperationException($"no way to run {invocation.GetType().Name}");
        }
    }
}
